"""The gates that pool to cells or to covariances, against their peers."""

import dataclasses
import functools

import keras_attention as ka
from benchmarks.harness.cases import GRAPH
from benchmarks.harness.comparison import Subject
from benchmarks.harness.comparison import compare
from benchmarks.harness.goals import Goal
from benchmarks.harness.goals import number
from benchmarks.harness.report import Table
from benchmarks.peers import naive

TITLE = "Gather-excite and second-order pooling"
SHAPE = (8, 56, 56, 256)


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

WIDE = "GatherExcite, learned"
NOTE = (
    f"The naive way of `{WIDE}`, a depthwise kernel of the image's size, takes "
    "seconds at this size, and over a minute under XLA; `--quick` compares "
    "it with ours. Goals count all rows. The average of the whole image is one "
    "operation for Keras, too, and leaves little to win. With extent 2, "
    "spreading the windows' gradient over the image takes half of the backward "
    "pass; transposed matrices, and the convolution's own gradient (both "
    "tried) take as long in the graph. Under XLA every tap of the learned "
    "gather computes the batch normalization's gradient again; a barrier "
    "between them (tried, not public in TensorFlow) takes at most a fifth off. "
    "GSoP's floor is the graph's product, which is oneDNN's where there is "
    "AVX-512, and XLA's is not."
)
BOTH = {"pass": "forward+backward"}
SIMPLE = ("GatherExcite", "GatherExcite, extent 2", "GatherExcite, extent 8")
GOALS = (
    Goal(
        "naive ÷ GE without weights, forward+backward, graph",
        "naive ÷ ours",
        1.7,
        least=True,
        rows={"layer": SIMPLE, "mode": "graph", **BOTH},
    ),
    Goal(
        "naive ÷ GE without weights, forward+backward, XLA",
        "naive ÷ ours",
        5,
        least=True,
        rows={"layer": SIMPLE, "mode": "XLA", **BOTH},
    ),
    Goal("GE, learned gather: XLA ÷ graph", "XLA ÷ graph", 1.5, table=1),
    Goal(
        "GSoP forward ÷ its products",
        "ours ÷ floor",
        1.3,
        rows={"layer": "ChannelGSoP", "pass": "forward"},
    ),
    Goal(
        "naive ÷ GSoP, forward+backward, XLA",
        "naive ÷ ours",
        3,
        least=True,
        rows={"layer": "ChannelGSoP", "mode": "XLA", **BOTH},
    ),
)


def run(quick: bool = False) -> list[Table]:
    if quick:
        return [compare(SUBJECTS, (2, 16, 16, 32), 3, GRAPH)]
    wide = dataclasses.replace(SUBJECTS[WIDE], peers={})
    table = compare({**SUBJECTS, WIDE: wide}, SHAPE, 3)
    return [table, beside_graph(table)]


def beside_graph(timings: Table) -> Table:
    """How the learned gathers' times under XLA compare with the graph's."""
    table = Table(["layer", "pass", "XLA ÷ graph"], "Of the medians above.")
    times = {
        (layer, direction, mode): number(time)
        for layer, mode, direction, time, *_ in timings.rows
    }
    for (layer, direction, mode), time in times.items():
        if mode == "XLA" and layer.endswith("learned"):
            ratio = time / times[layer, direction, "graph"]
            table.add(layer, direction, f"{ratio:.2f}")
    return table
