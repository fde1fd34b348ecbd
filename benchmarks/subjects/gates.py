"""The gates that most networks use, compared with their floors and peers."""

import keras_attention as ka
from benchmarks.harness.cases import PASSES
from benchmarks.harness.comparison import Subject
from benchmarks.harness.comparison import compare
from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.peers import naive

TITLE = "Gates"
LARGE, SMALL = (32, 56, 56, 256), (8, 14, 14, 1024)


def keras_cv_squeeze_excite(ours):
    from keras_cv.layers import SqueezeAndExcite2D

    channels = ours.expand.units
    peer = SqueezeAndExcite2D(channels, bottleneck_filters=ours.reduce.units)
    return lambda x, training: peer(x, training=training), [peer]


SUBJECTS = {
    "SqueezeExcite": Subject(
        ka.SqueezeExcite,
        {"naive": naive.squeeze_excite, "KerasCV": keras_cv_squeeze_excite},
        ("kecam", "torch"),
    ),
    "EfficientChannelAttention": Subject(
        ka.EfficientChannelAttention,
        {"naive": naive.efficient_channel_attention},
        ("kecam", "torch"),
    ),
    "CBAM": Subject(ka.CBAM, {"naive": naive.cbam}, ("torch",)),
}

FORWARD = {"pass": "forward"}
BOTH = {"pass": "forward+backward"}
GATES = ("SqueezeExcite", "EfficientChannelAttention")
GOALS = (
    Goal(
        "SE forward ÷ 3N",
        "ours ÷ floor",
        1.25,
        rows={"layer": GATES[0], **FORWARD},
    ),
    Goal(
        "ECA forward ÷ 3N",
        "ours ÷ floor",
        1.4,
        rows={"layer": GATES[1], **FORWARD},
    ),
    Goal(
        "SE, ECA forward+backward ÷ 7N, graph",
        "ours ÷ floor",
        1.75,
        rows={"layer": GATES, "mode": "graph", **BOTH},
    ),
    Goal(
        "SE, ECA forward+backward ÷ 7N, XLA",
        "ours ÷ floor",
        1.5,
        rows={"layer": GATES, "mode": "XLA", **BOTH},
    ),
    Goal(
        "KerasCV ÷ SE, forward+backward",
        "KerasCV ÷ ours",
        1.5,
        least=True,
        rows=BOTH,
    ),
    Goal(
        "naive ÷ CBAM, forward+backward, graph",
        "naive ÷ ours",
        1.5,
        least=True,
        rows={"layer": "CBAM", "mode": "graph", **BOTH},
    ),
    Goal(
        "naive ÷ CBAM, forward+backward, XLA",
        "naive ÷ ours",
        2,
        least=True,
        rows={"layer": "CBAM", "mode": "XLA", **BOTH},
    ),
)
NOTE = (
    "All rows count, so a goal is missed if one mode misses it. SE passes over "
    "the image nine times forward and backward, two more than the floor: "
    "TensorFlow's graph has no operation that scales, adds and writes at once, "
    "and a loop over the images takes longer to join them (tried). CBAM's "
    "gradient compares the image with both maxima again; a loop over the "
    "images for that, and a product in the place of the choice (both tried), "
    "take as long or longer."
)


def run(quick: bool = False) -> list[Table]:
    if quick:
        return [compare(SUBJECTS, (4, 28, 28, 64), 3, passes=PASSES[1:])]
    return [compare(SUBJECTS, shape, 9) for shape in (LARGE, SMALL)]
