"""Lightweight and dynamic convolutions against other implementations.

Each one is compared with ours, gradients included, before it is timed.
"""

import functools
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness.cases import GRAPH
from benchmarks.harness.cases import MODES
from benchmarks.harness.cases import PASSES
from benchmarks.harness.cases import check_equal
from benchmarks.harness.cases import compiled
from benchmarks.harness.cases import draw
from benchmarks.harness.goals import Goal
from benchmarks.harness.growth import exponent
from benchmarks.harness.memory import peak_memory
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave
from keras_attention.ops.sequence.head_convolution import dynamic_convolution
from keras_attention.ops.sequence.head_convolution import (
    lightweight_convolution,
)

TITLE = "Lightweight and dynamic convolutions"
BATCH, LENGTH, WIDTH, HEADS = 8, 512, 512, 8
POSITIONS = (64, 512, 4096)


def unfold(x, filters):
    """Every position's K inputs side by side, then one product for each."""
    windows = _windows(x, filters.shape[-1])  # [B, T, H, R, K]
    if len(filters.shape) == 2:
        y = tf.einsum("bthrk,hk->bthr", windows, filters)
    else:
        y = tf.einsum("bthrk,bthk->bthr", windows, filters)
    return tf.reshape(y, tf.shape(x))


def band(x, filters):
    """A T x T matrix for each head, with the filters on its diagonals."""
    taps = filters.shape[-1]
    batch, length, width = x.shape
    heads = filters.shape[-2]
    if len(filters.shape) == 2:
        filters = tf.broadcast_to(filters, (1, length, heads, taps))
    filters = tf.transpose(filters, (0, 2, 1, 3))  # [B, H, T, K]
    # Row t, taps from t on, in a matrix that is K - 1 too wide.
    rows = tf.pad(filters, [(0, 0)] * 3 + [(0, length)])
    flat = tf.reshape(rows, (-1, heads, length * (length + taps)))
    flat = flat[..., : length * (length + taps - 1)]
    matrix = tf.reshape(flat, (-1, heads, length, length + taps - 1))
    left = (taps - 1) // 2
    matrix = matrix[..., left : left + length]  # [B, H, T, T]
    x = tf.reshape(x, (batch, length, heads, width // heads))
    y = matrix @ tf.transpose(x, (0, 2, 1, 3))
    return tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (batch, length, width))


def depthwise(x, filters):
    """TensorFlow's depthwise convolution with its own gradient."""
    kernel = tf.repeat(filters, x.shape[-1] // filters.shape[0], axis=0)
    kernel = tf.transpose(kernel)[None, :, :, None]  # [1, K, D, 1]
    y = tf.nn.depthwise_conv2d(x[:, None], kernel, [1] * 4, "SAME")
    return y[:, 0]


def _windows(x, taps):
    batch, length, width = x.shape
    left = (taps - 1) // 2
    padded = tf.pad(x, [(0, 0), (left, taps - 1 - left), (0, 0)])
    shifted = [padded[:, tap : tap + length] for tap in range(taps)]
    windows = tf.stack(shifted, axis=-1)
    return tf.reshape(windows, (batch, length, HEADS, width // HEADS, taps))


OURS = {"light": lightweight_convolution, "dynamic": dynamic_convolution}
WAYS = {"unfold": unfold, "band": band, "depthwise": depthwise}
BOTH = {"mode": "graph", "pass": PASSES[1]}
LIGHT = {"kind": "light", "K": ("15", "31"), **BOTH}
GOALS = (
    Goal("light, K ≥ 15: unfold", "unfold ÷ ours", 20, True, LIGHT),
    Goal("light, K ≥ 15: depthwise", "depthwise ÷ ours", 8, True, LIGHT),
    *(
        Goal(
            f"DynamicConv1D {direction}: {way}",
            f"{way} ÷ ours",
            limit,
            least=True,
            rows={"mode": "graph", "pass": direction},
            table=1,
        )
        for direction, way, limit in (
            (PASSES[0], "unfold", 10),
            (PASSES[1], "unfold", 15),
            (PASSES[0], "band", 2),
            (PASSES[1], "band", 3),
        )
    ),
    *(
        Goal(f"{kind}: {column}", column, limit, rows={"kind": kind}, table=3)
        for kind, column, limit in (
            ("light", "power of the length, time", 1.1),
            ("dynamic", "power of the length, time", 1.1),
            ("light", "largest peak ÷ x", 6),
            ("dynamic", "largest peak ÷ x", 10),
        )
    ),
    Goal("decoding: last ÷ first position", "÷ first", 1.2, table=4),
)
NOTE = (
    "The processor decides. On one without AVX-512 the depthwise op's own "
    "gradient took 0.57 of ours at K 15 and 1.23 at K 31, and unfolding 15 and "
    "26 times ours. The op's time grows with K, and that of a product for each "
    "head does not; the op is used up to K 7. The result and the gradient to "
    "x, which are in the peaks, have the size of x."
)


def run(quick: bool = False) -> list[Table]:
    if quick:
        return [
            ways((2, 64), [3], 3, GRAPH),
            layer((2, 64), 3, GRAPH),
            *lengths([64, 128], 3),
            decoding((16, 64)),
        ]
    return [
        ways((BATCH, LENGTH), [3, 7, 15, 31], 7),
        layer((BATCH, LENGTH), 7),
        *lengths([512, 2048, 8192, 16384], 7),
        decoding(POSITIONS),
    ]


def draw_filters(kind, batch, length, taps):
    shape = (HEADS,) if kind == "light" else (batch, length, HEADS)
    return tf.nn.softmax(draw(*shape, taps))


def ways(shape, sizes, rounds, modes=MODES):
    table = Table(
        [
            "kind",
            "K",
            "mode",
            "pass",
            "ours, ms",
            *(f"{w} ÷ ours" for w in WAYS),
        ],
        f"The convolution alone: batch {shape[0]}, {shape[1]} positions, "
        f"{WIDTH} channels, {HEADS} heads, float32. The light band is left out "
        "under XLA, whose gradient of it is wrong.",
    )
    cases = [
        (kind, taps, mode, direction)
        for kind in OURS
        for taps in sizes
        for mode in modes
        for direction in PASSES
        if mode != "XLA" or taps == max(sizes)
    ]
    for kind, taps, mode, direction in tqdm(cases, "ways", leave=False):
        x, upstream = draw(*shape, WIDTH), draw(*shape, WIDTH)
        filters = draw_filters(kind, *shape, taps)
        functions = {"ours": OURS[kind], **WAYS}
        if kind == "dynamic":
            del functions["depthwise"]  # It knows no filters by position.
        elif mode == "XLA":
            del functions["band"]  # XLA gets its filters' gradient wrong.
        made = {
            name: compiled(
                function,
                [],
                [x, filters],
                direction == PASSES[1],
                modes[mode],
                upstream=upstream,
            )
            for name, function in functions.items()
        }
        timings = _checked(made, rounds)
        table.add(
            kind,
            taps,
            mode,
            direction,
            f"{timings.milliseconds('ours').median:.1f}",
            *(timings.ratio(w, "ours") if w in made else "–" for w in WAYS),
        )
    return table


def layer(shape, rounds, modes=MODES):
    table = Table(
        ["mode", "pass", "ours, ms", "unfold ÷ ours", "band ÷ ours"],
        "The whole `DynamicConv1D`, K 31, with the projection to its filters; "
        "compared with the same projection and softmax in the other "
        "implementations.",
    )
    for mode, jit in modes.items():
        for direction in PASSES:
            x, upstream = draw(*shape, WIDTH), draw(*shape, WIDTH)
            ours = ka.DynamicConv1D(HEADS, 31)
            ours.build(x.shape)
            calls = {
                "ours": ours,
                "unfold": functools.partial(_composed, ours, unfold),
                "band": functools.partial(_composed, ours, band),
            }
            made = {
                name: compiled(
                    call,
                    ours.weights,
                    [x],
                    direction == PASSES[1],
                    jit,
                    upstream=upstream,
                )
                for name, call in calls.items()
            }
            timings = _checked(made, rounds)
            table.add(
                mode,
                direction,
                f"{timings.milliseconds('ours').median:.1f}",
                timings.ratio("unfold", "ours"),
                timings.ratio("band", "ours"),
            )
    return table


def lengths(sizes, rounds):
    """Time and peak by length: both should grow in proportion."""
    times, peaks, table = {}, {}, Table(["length"])
    for kind in OURS:
        cases = {size: train(kind, 1, size) for size in sizes}
        timings = interleave(cases, rounds, kind)
        times[kind] = [timings.milliseconds(size).median for size in sizes]
        peaks[kind] = [
            peak_memory(
                "benchmarks.subjects.convolutions:train",
                kind=kind,
                batch=BATCH,
                length=size,
            )
            / (4 * BATCH * size * WIDTH)
            for size in sizes
        ]
        table.columns += [f"{kind}, ms", f"{kind}, peak ÷ x"]
    table.text = (
        "K 31, forward+backward, plain graph. Times at batch 1. Peaks at "
        f"batch {BATCH}, over the inputs and in bytes of x; y and the "
        "gradients, which are results, are in them."
    )
    growth = Table(["kind", "power of the length, time", "largest peak ÷ x"])
    for kind in OURS:
        power = exponent(sizes, times[kind])
        growth.add(kind, f"{power:.2f}", f"{max(peaks[kind]):.1f}")
    for number, size in enumerate(sizes):
        cells = []
        for kind in OURS:
            cells.append(f"{times[kind][number]:.1f}")
            cells.append(f"{peaks[kind][number]:.1f}")
        table.add(f"{size:,}", *cells)
    return [table, growth]


def train(kind, batch, length):
    """One forward and backward pass, for `benchmarks.harness.memory`."""
    inputs = [draw(batch, length, WIDTH), draw_filters(kind, batch, length, 31)]
    return compiled(OURS[kind], [], inputs, backward=True, jit=False)


def decoding(positions):
    """One token after the other: does a later one take longer?"""
    length = max(positions)
    ours = ka.DynamicConv1D(HEADS, 31, causal=True)
    x = draw(1, length, WIDTH)
    ours.build(x.shape)
    step = tf.function(lambda token, cache: ours(token, cache=cache))
    cache, outputs, seconds = ours.initial_cache(1), [], []
    step(x[:, :1], cache)
    for position in range(length):
        token = x[:, position : position + 1]
        start = time.perf_counter()
        output, cache = step(token, cache)
        seconds.append(time.perf_counter() - start)
        outputs.append(output)
    check_equal(ours(x), tf.concat(outputs, 1), "decoding")
    table = Table(
        ["position", "ms a token", "÷ first"],
        "`DynamicConv1D`, K 31, causal, batch 1, decoding token by token: the "
        "median of the last 64 tokens before a position.",
    )
    for position in positions:
        last = np.median(seconds[max(0, position - 64) : position])
        ratio = last / np.median(seconds[:64])
        table.add(f"{position:,}", f"{1e3 * last:.2f}", f"{ratio:.2f}")
    return table


def _composed(ours, way, x):
    batch, length, _ = x.shape
    logits = keras.ops.reshape(ours.filters(x), (batch, length, HEADS, -1))
    return way(x, tf.nn.softmax(logits))


def _checked(made, rounds):
    found = made["ours"]()
    for name, run in made.items():
        check_equal(run(), found, name)
    return interleave(made, rounds)
