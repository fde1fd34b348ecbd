"""Figures of RESULTS.md: sequence layers by length, gates by their floors.

`python -m benchmarks.harness.figures` reads the tables and writes a PNG next
to them for each subject that has been run.
"""

import pathlib
import re
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.harness.cases import MODES
from benchmarks.harness.goals import number
from benchmarks.harness.report import RESULTS
from benchmarks.subjects import attention
from benchmarks.subjects import attention_memory
from benchmarks.subjects import convolutions
from benchmarks.subjects import gates

Row = dict[str, str]
COLORS = {"ours": "tab:blue", "Keras": "tab:orange", "torch": "tab:red"}
COLORS |= {"light": "tab:blue", "dynamic": "tab:green"}
LINES = {"full": "-", "causal": "--"}
WAYS = {
    "ours": "tab:blue",
    "naive": "tab:gray",
    "KerasCV": "tab:orange",
    "kecam": "tab:green",
    "torch": "tab:red",
}


def read_tables(title: str, path: pathlib.Path = RESULTS) -> list[list[Row]]:
    """The tables of a section, a dictionary for each row; none if absent."""
    text = path.read_text() if path.exists() else ""
    section = re.search(rf"(?ms)^## {re.escape(title)}$(.*?)(?=^## |\Z)", text)
    tables = re.findall(r"(?m)(?:^\|.*\n?)+", section[1] if section else "")
    return [_rows(table) for table in tables]


def draw_attention(path: pathlib.Path) -> None:
    """Time and peak memory of ours, of Keras' layer and of torch's."""
    times = read_tables(attention.TITLE)[0]
    peaks = read_tables(attention_memory.TITLE)[0]
    figure, (left, right) = _figure(
        "Self-attention, width 512, 8 heads: forward and backward"
    )
    for kind, line in LINES.items():
        for name in attention.NAMES:
            label = f"{name}, {kind}"
            style = {"color": COLORS[name], "linestyle": line, "label": label}
            _plot(
                left,
                times,
                lambda row, kind=kind: (
                    (row["kind"], row["mode"], row["pass"])
                    == (kind, "graph", "forward+backward")
                ),
                lambda row: row["batch, length"].split(", ")[1],
                lambda row, name=name: _for_1000(row, f"{name}, ms"),
                style,
            )
            _plot(
                right,
                peaks,
                lambda row, kind=kind: row["kind"] == kind,
                lambda row: row["length"],
                lambda row, name=name: row[f"{name}, MiB"],
                style,
            )
    _finish(left, "ms for 1,000 tokens")
    _finish(right, "peak memory, MiB, batch 1")
    figure.savefig(path)


def draw_convolutions(path: pathlib.Path) -> None:
    """Time and peak memory of the convolutions, with lines of slope 1."""
    rows = read_tables(convolutions.TITLE)[2]
    figure, (left, right) = _figure(
        "Convolutions, K 31, 512 channels, 8 heads: forward and backward"
    )
    for kind in convolutions.OURS:
        style = {"color": COLORS[kind], "label": kind}
        for axes, column in ((left, "ms"), (right, "peak ÷ x")):
            _plot(
                axes,
                rows,
                lambda row: True,
                lambda row: row["length"],
                lambda row, name=f"{kind}, {column}": row[name],
                style,
            )
    ends = [number(rows[end]["length"]) for end in (0, -1)]
    start = number(rows[0]["light, ms"])
    left.plot(
        ends,
        [start, start * ends[1] / ends[0]],
        color="gray",
        linestyle=":",
        label="proportional",
    )
    _finish(left, "ms, batch 1")
    _finish(right, "peak memory ÷ bytes of x", scale="linear")
    right.set_ylim(bottom=0)
    figure.savefig(path)


def draw_gates(path: pathlib.Path) -> None:
    """Bars: how many times its floor each way of a gate takes."""
    rows = read_tables(gates.TITLE)[0]
    figure, panels = _figure(
        f"Gates at {gates.LARGE}: time ÷ floor, forward and backward"
    )
    for axes, mode in zip(panels, MODES, strict=True):
        wanted = [
            row
            for row in rows
            if (row["mode"], row["pass"]) == (mode, "forward+backward")
        ]
        for place, name in enumerate(WAYS):
            ratios = [_to_floor(row, name) for row in wanted]
            if not any(ratios):
                continue
            bars = axes.bar(
                [number + 0.16 * place for number in range(len(wanted))],
                [ratio or 0 for ratio in ratios],
                width=0.15,
                label=name,
                color=WAYS[name],
            )
            axes.bar_label(
                bars,
                [f"{ratio:.1f}" if ratio else "" for ratio in ratios],
                fontsize=7,
            )
        axes.set_xticks(
            [number + 0.24 for number in range(len(wanted))],
            [row["layer"].replace("Att", "\nAtt") for row in wanted],
            fontsize=8,
        )
        axes.axhline(1, color="gray", linestyle=":")
        axes.set_title(mode, fontsize=9)
        axes.set_ylabel("time ÷ floor (7N)")
        axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path)


PICTURES: dict[str, tuple[Callable[[pathlib.Path], None], tuple[str, ...]]] = {
    "attention.png": (
        draw_attention,
        (attention.TITLE, attention_memory.TITLE),
    ),
    "convolutions.png": (draw_convolutions, (convolutions.TITLE,)),
    "gates.png": (draw_gates, (gates.TITLE,)),
}


def main() -> None:
    for name, (draw, titles) in PICTURES.items():
        missing = [title for title in titles if not read_tables(title)]
        if missing:
            print(f"{name}: no results of {', '.join(missing)}")
            continue
        draw(RESULTS.parent / name)
        print(RESULTS.parent / name)


def _for_1000(row, column):
    batch, length = map(number, row["batch, length"].split(", "))
    return str(1000 * number(row[column]) / (batch * length))


def _to_floor(row, name):
    """A way's time in floors; `None` where it was not measured."""
    ours = number(row["ours ÷ floor"])
    if name == "ours":
        return ours
    ratio = number(row[f"{name} ÷ ours"])
    return ours * ratio if ratio else None


def _rows(table):
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in table.strip().splitlines()
    ]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def _figure(title):
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, figure.subplots(1, 2)


def _plot(axes, rows, wanted, length, value, style):
    points = [
        (number(length(row)), number(value(row)))
        for row in rows
        if wanted(row) and number(value(row)) is not None
    ]
    axes.plot(*zip(*points, strict=True), marker="o", markersize=4, **style)


def _finish(axes: Axes, label: str, scale: str = "log"):
    axes.set_xscale("log", base=2)
    axes.set_yscale(scale)
    if scale == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("length, tokens")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


if __name__ == "__main__":
    main()
