"""Cases, timing, memory, goals and reports of the benchmarks."""
