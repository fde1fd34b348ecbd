"""Linear recurrences: time a token by length, and while decoding."""

import functools
import time

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
LENGTHS = (1024, 4096, 16_384, 65_536)
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
NOTE = (
    "Decays that are the same for all tokens are computed for one chunk: for "
    "every chunk they were a constant of the graph up to 4,096 tokens, and "
    "computed beyond, which took 1.5 times as long."
)


def run(quick: bool = False) -> list[Table]:
    if quick:
        return [lengths((256, 512), 3), decoding((16, 64))]
    return [lengths(LENGTHS, 9), decoding(POSITIONS)]


def lengths(sizes, rounds):
    """Time a token of one forward pass over the whole sequence."""
    table = Table(
        ["layer", "length", "µs a token", "÷ first"],
        f"Forward, plain graph, batch 1, {WIDTH} channels, {HEADS} heads, "
        "float32: the processor's time for a pass divided by its length.",
    )
    for name, make in tqdm(LAYERS.items(), "lengths", leave=False):
        layer = make()
        layer.build((1, None, WIDTH))
        cases = {
            size: compiled(layer, [], [draw(1, size, WIDTH)], False, False)
            for size in sizes
        }
        timings = interleave(cases, rounds, clock=time.process_time)
        for size in sizes:
            micro = 1e3 * timings.milliseconds(size).median / size
            ratio = timings.ratio(size, sizes[0], size / sizes[0])
            table.add(name, f"{size:,}", f"{micro:.2f}", str(ratio))
    return table


def decoding(positions):
    """One token after the other: does a later one take longer?"""
    table = Table(
        ["layer", "position", "ms a token", "÷ first"],
        "Decoding token by token: the processor's time for the token at a "
        "position, with the cache that was there; the positions in turn.",
    )
    for name, make in tqdm(LAYERS.items(), "decoding", leave=False):
        ours, length = make(), max(positions)
        x = draw(1, length, WIDTH)
        ours.build(x.shape)
        step = tf.function(functools.partial(_step, ours))
        cache, outputs, cases = ours.initial_cache(1), [], {}
        for position in range(1, length + 1):
            token = x[:, position - 1 : position]
            if position in positions:
                cases[position] = functools.partial(step, token, cache)
            output, cache = step(token, cache)
            outputs.append(output)
        check_equal(ours(x), tf.concat(outputs, 1), name)
        timings = interleave(cases, 40, clock=time.process_time)
        for position in positions:
            table.add(
                name,
                f"{position:,}",
                f"{timings.milliseconds(position).median:.2f}",
                str(timings.ratio(position, positions[0])),
            )
    return table


def _step(layer, token, cache):
    return layer(token, cache=cache)
