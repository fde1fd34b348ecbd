"""Multi-head attention beside Keras' own: time and peak memory by length."""

import keras

import keras_attention as ka
from benchmarks.cases import MODES
from benchmarks.cases import PASSES
from benchmarks.cases import compiled
from benchmarks.cases import draw
from benchmarks.memory import peak_memory
from benchmarks.report import Table
from benchmarks.timing import interleave

TITLE = "Attention"
HEADS, WIDTH = 8, 512


def run(quick: bool = False) -> list[Table]:
    short = [(2, 128)] if quick else [(8, 128), (8, 512)]
    long = [(1, 512)] if quick else [(1, 4096)]
    rounds = 3 if quick else 9
    times = Table(
        ["batch, length", "kind", "mode", "pass", "ours, ms", "Keras ÷ ours"],
        f"Self-attention, width {WIDTH}, {HEADS} heads, float32.",
    )
    for batch, length in short + long:
        for causal in (False, True):
            for mode, jit in MODES.items():
                for direction in PASSES:
                    timings = interleave(
                        {
                            name: _case(
                                name, batch, length, causal, jit, direction
                            )
                            for name in ("ours", "Keras")
                        },
                        rounds,
                    )
                    times.add(
                        f"{batch}, {length}",
                        "causal" if causal else "full",
                        mode,
                        direction,
                        f"{timings.milliseconds('ours').median:.1f}",
                        timings.ratio("Keras", "ours"),
                    )
    memory = Table(
        ["length", "kind", "ours, MiB", "Keras, MiB", "Keras ÷ ours"],
        "Peak memory over the inputs of one forward and backward pass, batch "
        "1, plain graph, a process for each.",
    )
    for length in [512] if quick else [2048, 4096, 8192]:
        for causal in (False, True):
            ours, theirs = (
                peak_memory(
                    "benchmarks.attention:train",
                    name=name,
                    length=length,
                    causal=causal,
                )
                for name in ("ours", "Keras")
            )
            memory.add(
                length,
                "causal" if causal else "full",
                f"{ours / 2**20:.0f}",
                f"{theirs / 2**20:.0f}",
                f"{theirs / ours:.1f}",
            )
    return [times, memory]


def train(name: str, length: int, causal: bool):
    """One forward and backward pass, for `benchmarks.memory`."""
    return _case(name, 1, length, causal, False, PASSES[1])


def _case(name, batch, length, causal, jit, direction):
    keras.utils.set_random_seed(0)
    x = draw(batch, length, WIDTH)
    if name == "ours":
        layer = ka.MultiHeadAttention(HEADS, causal=causal)
        layer.build(x.shape)
        call = layer
    else:
        layer = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        layer.build(x.shape, x.shape)

        def call(x):
            return layer(x, x, use_causal_mask=causal)

    return compiled(
        call, layer.trainable_variables, [x], direction == PASSES[1], jit
    )
