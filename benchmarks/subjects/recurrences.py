"""Linear recurrences: time a token by length, and while decoding."""

import functools
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness.cases import check_equal
from benchmarks.harness.cases import compiled
from benchmarks.harness.cases import draw
from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave

TITLE = "Linear recurrences"
WIDTH, HEADS = 128, 4
LAYERS = {
    "LinearAttention": lambda: ka.LinearAttention(HEADS, causal=True),
    "Retention": lambda: ka.Retention(HEADS),
    "GatedLinearAttention": lambda: ka.GatedLinearAttention(HEADS),
    "GatedDeltaNet": lambda: ka.GatedDeltaNet(HEADS),
}
LENGTHS = (4096, 16_384, 65_536)
POSITIONS = (64, 1024, 4096)
GOALS = tuple(
    Goal(f"{name}: last ÷ first length", "÷ first", 1.1, rows={"layer": name})
    for name in LAYERS
) + tuple(
    Goal(
        f"{name}, decoding: last ÷ first position",
        "÷ first",
        1.1,
        rows={"layer": name},
        table=1,
    )
    for name in LAYERS
)
NOTE = "The first length is long enough to fill the processor's caches."


def run(quick: bool = False) -> list[Table]:
    if quick:
        return [lengths((256, 512), 3), decoding((16, 64))]
    return [lengths(LENGTHS, 5), decoding(POSITIONS)]


def lengths(sizes, rounds):
    """Time a token of one forward pass over the whole sequence."""
    table = Table(
        ["layer", "length", "µs a token", "÷ first"],
        f"Forward, plain graph, batch 1, {WIDTH} channels, {HEADS} heads, "
        "float32: the time of a pass divided by its length.",
    )
    for name, make in tqdm(LAYERS.items(), "lengths", leave=False):
        layer = make()
        layer.build((1, None, WIDTH))
        cases = {
            size: compiled(layer, [], [draw(1, size, WIDTH)], False, False)
            for size in sizes
        }
        timings = interleave(cases, rounds)
        for size in sizes:
            micro = 1e3 * timings.milliseconds(size).median / size
            ratio = timings.ratio(size, sizes[0], size / sizes[0])
            table.add(name, f"{size:,}", f"{micro:.2f}", str(ratio))
    return table


def decoding(positions):
    """One token after the other: does a later one take longer?"""
    table = Table(
        ["layer", "position", "ms a token", "÷ first"],
        "Decoding token by token: the median of the last 64 tokens before a "
        "position.",
    )
    for name, make in tqdm(LAYERS.items(), "decoding", leave=False):
        ours, length = make(), max(positions)
        x = draw(1, length, WIDTH)
        ours.build(x.shape)
        step = tf.function(functools.partial(_step, ours))
        cache, outputs, seconds = ours.initial_cache(1), [], []
        step(x[:, :1], cache)
        for position in range(length):
            token = x[:, position : position + 1]
            start = time.perf_counter()
            output, cache = step(token, cache)
            seconds.append(time.perf_counter() - start)
            outputs.append(output)
        check_equal(ours(x), tf.concat(outputs, 1), name)
        first = np.median(seconds[:64])
        for position in positions:
            last = np.median(seconds[max(0, position - 64) : position])
            table.add(
                name,
                f"{position:,}",
                f"{1e3 * last:.2f}",
                f"{last / first:.2f}",
            )
    return table


def _step(layer, token, cache):
    return layer(token, cache=cache)
