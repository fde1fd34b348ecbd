"""The gates that most networks use, beside their floors and all peers."""

import keras_attention as ka
from benchmarks.comparison import Subject
from benchmarks.comparison import compare
from benchmarks.peers import naive
from benchmarks.report import Table

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


def run(quick: bool = False) -> list[Table]:
    shapes = [(4, 28, 28, 64)] if quick else [LARGE, SMALL]
    return [compare(SUBJECTS, shape, 3 if quick else 9) for shape in shapes]
