"""The gates beside compositions of Keras layers and KerasCV.

Each row is one pass of one layer on one shape. The peers get the same
weights and inputs, and their results, gradients included, are compared with
ours before anything is timed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

import keras
import tensorflow as tf
from keras import layers
from tqdm import tqdm

import keras_attention as ka
from benchmarks import floors
from benchmarks.cases import MODES
from benchmarks.cases import PASSES
from benchmarks.cases import check_equal
from benchmarks.cases import compiled
from benchmarks.cases import draw
from benchmarks.report import Table
from benchmarks.timing import interleave

TITLE = "Gates"
LARGE, SMALL = (32, 56, 56, 256), (8, 14, 14, 1024)


@dataclass(frozen=True)
class Subject:
    """A layer of ours and the peers that do the same work.

    Attributes:
        make: returns our layer.
        peers: name to a function of our built layer that returns the peer's
            call and its weights, in the order of ours.
    """

    make: Callable[[], keras.layers.Layer]
    peers: dict[str, Callable] = field(default_factory=dict)


def naive_squeeze_excite(ours):
    reduce = layers.Dense(ours.reduce.units, activation="relu")
    expand = layers.Dense(ours.expand.units, activation="sigmoid")
    pool = layers.GlobalAveragePooling2D(keepdims=True)

    def call(x):
        return layers.multiply([x, expand(reduce(pool(x)))])

    return call, [reduce, expand]


def keras_cv_squeeze_excite(ours):
    from keras_cv.layers import SqueezeAndExcite2D

    channels = ours.expand.units
    peer = SqueezeAndExcite2D(channels, bottleneck_filters=ours.reduce.units)
    return peer, [peer]


def naive_efficient_channel_attention(ours):
    pool = layers.GlobalAveragePooling2D()
    size = ours.excite.kernel.shape[0]
    conv = layers.Conv1D(1, size, padding="same", use_bias=False)

    def call(x):
        gate = conv(pool(x)[..., None])
        return x * tf.nn.sigmoid(gate)[:, None, None, :, 0]

    return call, [conv]


def naive_cbam(ours):
    reduce = layers.Dense(ours.channel_attention.reduce.units, "relu")
    expand = layers.Dense(ours.channel_attention.expand.units)
    conv = layers.Conv2D(1, 7, padding="same", use_bias=False)
    norm = layers.BatchNormalization(epsilon=1e-5)
    mean, maximum = layers.GlobalAveragePooling2D(), layers.GlobalMaxPooling2D()

    def call(x):
        logits = expand(reduce(mean(x))) + expand(reduce(maximum(x)))
        x = x * tf.nn.sigmoid(logits)[:, None, None]
        maps = [
            tf.reduce_max(x, -1, keepdims=True),
            tf.reduce_mean(x, -1, keepdims=True),
        ]
        return x * tf.nn.sigmoid(norm(conv(tf.concat(maps, -1))))

    return call, [reduce, expand, conv, norm]


def naive_gather_excite(ours):
    """Average pooling, nearest resizing, sigmoid, product."""
    extent = ours.extent
    padding = layers.ZeroPadding2D(extent - 1)
    pool = layers.AveragePooling2D(2 * extent - 1, extent)
    resize = layers.UpSampling2D(extent)

    def call(x):
        inside = pool(padding(tf.ones_like(x[:1, :, :, :1])))
        gathered = pool(padding(x)) / inside
        return x * tf.nn.sigmoid(resize(gathered))

    return call, []


SUBJECTS = {
    "SqueezeExcite": Subject(
        ka.SqueezeExcite,
        {"naive": naive_squeeze_excite, "KerasCV": keras_cv_squeeze_excite},
    ),
    "EfficientChannelAttention": Subject(
        ka.EfficientChannelAttention,
        {"naive": naive_efficient_channel_attention},
    ),
    "CBAM": Subject(
        functools.partial(ka.CBAM, gamma_initializer="ones"),
        {"naive": naive_cbam},
    ),
    "GatherExcite, extent 2": Subject(
        functools.partial(ka.GatherExcite, 2), {"naive": naive_gather_excite}
    ),
}


def run(quick: bool = False) -> list[Table]:
    shapes = [(4, 28, 28, 64)] if quick else [LARGE, SMALL]
    rounds = 3 if quick else 15
    tables = []
    for shape in shapes:
        table = Table(
            ["layer", "mode", "pass", "ours, ms", "beside", "theirs ÷ ours"],
            f"Input {shape}, float32. The floor is that of the bytes moved; "
            "its quotient is ours ÷ floor.",
        )
        for name, subject in tqdm(SUBJECTS.items(), str(shape), leave=False):
            for mode, jit in MODES.items():
                for direction in PASSES:
                    for row in _rows(subject, shape, jit, direction, rounds):
                        table.add(name, mode, direction, *row)
        tables.append(table)
    return tables


def _rows(subject, shape, jit, direction, rounds):
    x = draw(*shape)
    backward = direction == PASSES[1]
    ours = subject.make()
    ours.build(shape)
    cases = {
        "ours": compiled(ours, ours.trainable_variables, [x], backward, jit),
        "scale": floors.scale(x),
    }
    for name, make in subject.peers.items():
        call, parts = make(ours)
        call(x[:1])
        variables = [v for part in parts for v in part.trainable_variables]
        for mine, theirs in zip(
            ours.trainable_variables, variables, strict=True
        ):
            theirs.assign(tf.reshape(mine, theirs.shape))
        check_equal(ours(x), call(x), name)
        cases[name] = compiled(call, variables, [x], backward, jit)
    timings = interleave(cases, rounds)
    took = f"{timings.milliseconds('ours').median:.1f}"
    passes = 7 if backward else 3
    floor = timings.ratio("ours", "scale").median / (passes / 2)
    yield took, f"{passes}N floor", f"{floor:.2f}"
    for name in subject.peers:
        yield took, name, timings.ratio(name, "ours")
