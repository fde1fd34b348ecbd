"""What is measured: a module for each argument of `python -m benchmarks`."""
