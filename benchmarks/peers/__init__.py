"""The same mathematics as others write it. Each takes our weights.

Weights are in the order of our layer's; those of `torch_gates` and `kecam`
are built in processes of their own, by `benchmarks.harness.worker`.
"""
