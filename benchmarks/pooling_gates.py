"""The gates that pool to cells or to covariances, beside their peers."""

import functools

import keras_attention as ka
from benchmarks.comparison import Subject
from benchmarks.comparison import compare
from benchmarks.peers import naive
from benchmarks.report import Table

TITLE = "Gather-excite and second-order pooling"
SHAPE = (16, 56, 56, 256)


def gsop_products(shape):
    """The reduction to 128 channels, and their covariance."""
    batch, height, width, channels = shape
    positions = height * width
    return [
        ((batch * positions, channels), (channels, 128)),
        ((batch, 128, positions), (batch, positions, 128)),
    ]


def gather_excite(*arguments):
    return Subject(
        functools.partial(ka.GatherExcite, *arguments),
        {"naive": naive.gather_excite},
    )


SUBJECTS = {
    "GatherExcite": gather_excite(),
    "GatherExcite, extent 2": gather_excite(2),
    "GatherExcite, extent 8": gather_excite(8),
    "GatherExcite, extent 2, learned": gather_excite(2, True),
    "GatherExcite, learned": gather_excite(None, True),
    "ChannelGSoP": Subject(
        ka.ChannelGSoP, {"naive": naive.channel_gsop}, (), gsop_products
    ),
}


def run(quick: bool = False) -> list[Table]:
    if quick:
        # XLA takes most of the time, and it goes to compiling.
        return [compare(SUBJECTS, (2, 16, 16, 32), 3, {"graph": False})]
    return [compare(SUBJECTS, SHAPE, 5)]
