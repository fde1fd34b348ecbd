"""A training step of ResNet-50 with attention, compared with one without.

The floor of the gates is the time in which the bytes are moved that they must
move forward and backward, seven times each gate's input.
"""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import floors
from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Spread
from benchmarks.harness.timing import interleave
from keras_attention import attention_sites
from keras_attention import insert_attention
from keras_attention.models import ResNet

TITLE = "A network with attention"
ATTENTION = "squeeze_excite"
RATIO = "with ÷ (without + floor)"
GOALS = (Goal(RATIO, "ms", 1.05, rows={"what": RATIO}),)


def run(quick: bool = False) -> list[Table]:
    depth, size, batch, rounds = (18, 64, 2, 3) if quick else (50, 224, 8, 7)
    keras.utils.set_random_seed(0)
    plain = ResNet(depth, input_shape=(size, size, 3))
    attended = insert_attention(plain, ATTENTION, at="residual")
    places = [s for s in attention_sites(plain) if s.kind == "residual"]
    random = np.random.default_rng()
    x = random.normal(size=(batch, size, size, 3)).astype("float32")
    y = random.integers(1000, size=batch)
    scales = [
        floors.scale(tf.random.normal((batch, *place.shape[1:])))
        for place in places
    ]

    def floor():
        for scale in scales:
            scale()

    timings = interleave(
        {
            "plain": _step(plain, x, y),
            "attended": _step(attended, x, y),
            "floor": floor,
        },
        rounds,
        "inserted",
    )
    seconds = timings.seconds
    # A scale moves the bytes twice, and a gate seven times.
    gates = seconds["floor"] * 7 / 2
    table = Table(
        ["what", "ms"],
        f"ResNet-{depth}, batch {batch}, images {size}x{size}, "
        f"{len(places)} layers `{ATTENTION}`, one `train_on_batch` with SGD, "
        "plain graph, float32.",
    )
    table.add("step without attention", timings.milliseconds("plain"))
    table.add("step with attention", timings.milliseconds("attended"))
    table.add("floor of the gates", Spread.of(1e3 * gates))
    ratio = Spread.of(seconds["attended"] / (seconds["plain"] + gates))
    table.add(RATIO, ratio)
    return [table]


def _step(model, x, y):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        jit_compile=False,
    )
    return lambda: model.train_on_batch(x, y)
