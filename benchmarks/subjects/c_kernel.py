"""Attention by a C kernel of our own, against ours and the backend's.

`docs/c_kernel.md` says what it is for. `KERAS_BACKEND` says on what it runs.
Each case is first compared with the others, gradients included.
"""

import itertools

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness import steps
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave
from benchmarks.peers import c_kernel
from benchmarks.subjects.backend_attention import check

TITLE = f"Attention by a C kernel on {steps.backend()}, {steps.device()}"
HEADS, WIDTH = 8, 8 * c_kernel.WIDTH
PASSES = ("forward", "forward+backward")
KINDS = ("full", "causal")
GOALS = ()
# Relative to the largest value. Of one key, gradients cancel: 2.3e-5 was seen.
TOLERANCE = 1e-4


def run(quick: bool = False) -> list[Table]:
    sizes = ((16, 128), (4, 512), (2, 1024), (1, 2048), (1, 4096))
    table = Table(
        ["batch, length", "kind", "what", "pass", "kernel, ms"]
        + ["ours ÷ kernel", "backend's ÷ kernel"],
        f"{HEADS} heads of {c_kernel.WIDTH}, float32. Operation: attention "
        "alone. Layer: between projections. The backend's is "
        "`keras.ops.dot_product_attention`, on torch its own "
        "`scaled_dot_product_attention`.",
    )
    cases = itertools.product(
        sizes[:1] if quick else sizes, KINDS, (False, True), PASSES
    )
    for (batch, length), kind, is_layer, direction in tqdm(
        list(cases), TITLE, leave=False
    ):
        runs = make(
            batch, length, kind == "causal", is_layer, direction == PASSES[1]
        )
        check(runs, f"{kind} attention of {length} tokens", TOLERANCE)
        timings = interleave(runs, 2 if quick else 7)
        table.add(
            *(f"{batch}, {length:,}", kind),
            *("layer" if is_layer else "operation", direction),
            f"{timings.milliseconds('kernel').median:.2f}",
            *(timings.ratio(name, "kernel") for name in ("ours", "backend's")),
        )
    return [table]


def make(batch, length, causal, is_layer, backward):
    """One pass of each case, by name."""
    generator = np.random.default_rng(0)
    shape = (batch, length, HEADS, c_kernel.WIDTH)
    joined = (batch, length, WIDTH)
    count = 1 if is_layer else 3

    def draw(shape):
        return steps.to_tensor(generator.normal(size=shape), "float32")

    inputs = [draw(joined if is_layer else shape) for _ in range(count)]
    upstream = draw(joined if is_layer else shape)
    kernels = [
        keras.Variable(draw((WIDTH, WIDTH)) / WIDTH**0.5)
        for _ in range(4 if is_layer else 0)
    ]

    def layer(attend):
        def call(x):
            query, key, value = (
                ops.reshape(ops.matmul(x, kernel), shape)
                for kernel in kernels[:3]
            )
            y = ops.reshape(attend(query, key, value, causal), joined)
            return ops.matmul(y, kernels[3])

        return call

    def operation(attend):
        return lambda *inputs: attend(*inputs, causal)

    attends = {
        "ours": lambda *inputs: ka.ops.scaled_dot_product_attention(
            *inputs[:3], causal=inputs[3]
        ),
        "kernel": c_kernel.attend,
        "backend's": backends,
    }
    return {
        name: steps.step(
            (layer if is_layer else operation)(attend),
            kernels,
            inputs,
            backward,
            upstream,
        )
        for name, attend in attends.items()
    }


def backends(query, key, value, causal):
    """What the backend itself has for queries of as many keys."""
    if steps.backend() == "torch":
        from torch.nn import functional

        return functional.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (query, key, value)), is_causal=causal
        ).transpose(1, 2)
    return ops.dot_product_attention(query, key, value, is_causal=causal)
