"""Gates, convolutions and attention transfer on JAX, torch or TensorFlow.

`KERAS_BACKEND` says which. On a GPU, `make benchmark-gpu` runs it in bfloat16
as well. Each case is first compared with what it is timed against, gradients
included.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness import steps
from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Spread
from benchmarks.harness.timing import interleave
from benchmarks.peers import naive
from keras_attention.models import WideResNet

TITLE = (
    f"Gates, convolutions and transfer on {steps.backend()}, {steps.device()}"
)
PASSES = ("forward", "forward+backward")
GATES = {
    "SqueezeExcite": (ka.SqueezeExcite, naive.squeeze_excite),
    "EfficientChannelAttention": (
        ka.EfficientChannelAttention,
        naive.efficient_channel_attention,
    ),
    "CBAM": (ka.CBAM, naive.cbam),
}
HEADS = 8
CONVOLUTIONS = {
    "LightweightConv1D": ka.LightweightConv1D,
    "DynamicConv1D": ka.DynamicConv1D,
}
GOALS = (
    Goal("gates and convolutions", "ours ÷ naive", 1.0),
    Goal("a step of transfer", "ours ÷ (student + teacher)", 1.02),
)
# Relative to the largest value.
TOLERANCES = {"float32": 2e-3, "bfloat16": 6e-2}


def run(quick: bool = False) -> list[Table]:
    is_gpu = steps.device() == "gpu"
    rounds = 2 if quick else 15 if is_gpu else 7
    dtypes = ("float32", "bfloat16") if is_gpu or quick else ("float32",)
    images, sequences, batches = [(2, 8, 8, 32)], [(2, 16, 32)], (8,)
    if not quick:
        images = [(32, 56, 56, 256), (8, 14, 14, 1024)]
        sequences = [(8, 512, 512), (1, 4096, 512)]
        batches = (64, 128)
    return [
        gates(images, dtypes, rounds),
        convolutions(sequences, dtypes, rounds),
        transfer(batches, 8 if quick else 32, dtypes, rounds),
    ]


def gates(shapes, dtypes, rounds) -> Table:
    table = Table(
        ["layer", "shape", "dtype", "pass", "ours, ms", "ours ÷ naive"],
        "Gates against the same of Keras' own layers.",
    )
    for name, shape, dtype, direction in cases(GATES, shapes, dtypes):
        ours, peer = GATES[name]
        with policy(dtype):
            pair = gate_pair(ours, peer, shape)
            add(table, name, shape, dtype, direction, pair, rounds)
    return table


def convolutions(shapes, dtypes, rounds) -> Table:
    table = Table(
        ["layer", "shape", "dtype", "pass", "ours, ms", "ours ÷ naive"],
        f"Convolutions with {HEADS} heads and filters of 7 against a sum over "
        "the shifted sequences times their weights.",
    )
    for name, shape, dtype, direction in cases(CONVOLUTIONS, shapes, dtypes):
        with policy(dtype):
            pair = convolution_pair(CONVOLUTIONS[name], shape)
            add(table, name, shape, dtype, direction, pair, rounds)
    return table


def transfer(batches, size, dtypes, rounds) -> Table:
    table = Table(
        ["batch", "dtype", "student, teacher, ours (ms)"]
        + ["ours ÷ (student + teacher)"],
        "A step of attention transfer, WRN-16-1 from WRN-16-2 at three "
        f"stages, images {size}x{size}, against Keras' step of the student "
        "and a pass of the teacher, each with its batch from NumPy.",
    )
    for batch, dtype in itertools.product(batches, dtypes):
        with policy(dtype):
            runs = transfer_cases(batch, size)
        seconds = interleave(runs, rounds).seconds
        table.add(
            batch,
            dtype,
            ", ".join(f"{1e3 * np.median(s):.1f}" for s in seconds.values()),
            Spread.of(
                seconds["ours"] / (seconds["student"] + seconds["teacher"])
            ),
        )
    return table


def cases(layers, shapes, dtypes) -> Iterator[tuple]:
    found = list(itertools.product(layers, shapes, dtypes, PASSES))
    return iter(tqdm(found, TITLE, leave=False))


@contextlib.contextmanager
def policy(dtype: str) -> Iterator[None]:
    """Layers made inside compute in this dtype."""
    before = keras.config.dtype_policy()
    mixed = "mixed_bfloat16" if dtype == "bfloat16" else "float32"
    keras.config.set_dtype_policy(mixed)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def add(table, name, shape, dtype, direction, pair, rounds):
    """Compare the two of a pair, then their times."""
    generator = np.random.default_rng(0)
    x, upstream = (
        steps.to_tensor(generator.normal(size=shape), dtype) for _ in range(2)
    )
    backward = direction == PASSES[1]
    runs = {
        case: steps.step(call, variables, [x], backward, upstream)
        for case, (call, variables) in pair.items()
    }
    check(runs, f"{name} of {shape}", dtype)
    timings = interleave(runs, rounds)
    table.add(
        *(name, "×".join(map(str, shape)), dtype, direction),
        f"{timings.milliseconds('ours').median:.2f}",
        timings.ratio("ours", "naive"),
    )


def gate_pair(ours, peer, shape) -> dict[str, tuple]:
    """Ours and the same of Keras' layers, with one set of weights."""
    layer = ours()
    layer.build(shape)
    call, parts = peer(layer)
    call(ops.zeros((1, *shape[1:]), layer.compute_dtype), False)
    theirs = [v for part in parts for v in part.trainable_variables]
    for variable, other in zip(layer.trainable_variables, theirs, strict=True):
        other.assign(ops.reshape(variable, other.shape))
    return {
        "ours": (
            lambda x: layer(x, training=False),
            layer.trainable_variables,
        ),
        "naive": (lambda x: call(x, False), theirs),
    }


def convolution_pair(convolution, shape) -> dict[str, tuple]:
    """Ours and a sum over shifted sequences, with one set of weights."""
    layer = convolution(HEADS, 7)
    layer.build(shape)

    def naive_call(x):
        if isinstance(layer, ka.DynamicConv1D):
            filters = ops.reshape(layer.filters(x), (*shape[:2], HEADS, 7))
        else:
            filters = ops.cast(layer.kernel, x.dtype)[None, None]
        filters = ops.softmax(filters, axis=-1)  # [B or 1, T or 1, H, 7]
        split = ops.reshape(x, (*shape[:2], HEADS, shape[2] // HEADS))
        padded = ops.pad(split, [(0, 0), (3, 3), (0, 0), (0, 0)])
        total = sum(
            padded[:, place : place + shape[1]] * filters[..., place, None]
            for place in range(7)
        )
        return ops.reshape(total, shape)

    variables = layer.trainable_variables
    return {
        "ours": (lambda x: layer(x, training=False), variables),
        "naive": (naive_call, variables),
    }


def transfer_cases(batch: int, size: int) -> dict[str, Any]:
    """A step of the student alone, a pass of the teacher, and our step."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, size, size, 3)).astype("float32")
    y = generator.integers(10, size=batch)
    teacher = WideResNet(16, 2, input_shape=x.shape[1:])
    student = WideResNet(16, 1, input_shape=x.shape[1:])
    model = ka.AttentionTransferModel(
        keras.models.clone_model(student), teacher
    )
    for each in (student, model):
        each.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            loss="sparse_categorical_crossentropy",
        )
    return {
        "student": lambda: student.train_on_batch(x, y),
        "teacher": lambda: teacher.predict_on_batch(x),
        "ours": lambda: model.train_on_batch(x, y),
    }


def check(runs, name, dtype):
    """Stop if the two do not give one result."""
    found = [
        [ops.convert_to_numpy(ops.cast(y, "float32")).ravel() for y in run()]
        for run in runs.values()
    ]
    # Gradients of a gate that has no effect are small, and rounded.
    scale = max(np.abs(one).max() for one in found[0]) / 100
    for one, other in zip(*found, strict=True):
        error = np.abs(one - other).max() / max(np.abs(one).max(), scale)
        if not error < TOLERANCES[dtype]:
            raise RuntimeError(
                f"{name}: the two differ by {error:.1e} of the largest value"
            )
