"""Pictures of RESULTS.md: time and memory of sequence layers by length.

`python -m benchmarks.pictures` reads the tables and writes a PNG beside them
for each subject that has been run.
"""

import pathlib
import re
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import attention
from benchmarks import attention_memory
from benchmarks import convolutions
from benchmarks.report import RESULTS

Row = dict[str, str]
COLORS = {"ours": "tab:blue", "Keras": "tab:orange"}
COLORS |= {"light": "tab:blue", "dynamic": "tab:green"}
LINES = {"full": "-", "causal": "--"}


def read_tables(title: str, path: pathlib.Path = RESULTS) -> list[list[Row]]:
    """The tables of a section, a dictionary for each row; none if absent."""
    text = path.read_text() if path.exists() else ""
    section = re.search(rf"(?ms)^## {re.escape(title)}$(.*?)(?=^## |\Z)", text)
    tables = re.findall(r"(?m)(?:^\|.*\n?)+", section[1] if section else "")
    return [_rows(table) for table in tables]


def number(cell: str) -> float | None:
    """The first number of a cell, its thousands set apart; `None` for "–"."""
    found = re.match(r"[\d,]+(\.\d+)?", cell)
    return float(found[0].replace(",", "")) if found else None


def draw_attention(path: pathlib.Path) -> None:
    """Time and peak memory of ours and of Keras' layer."""
    times = read_tables(attention.TITLE)[0]
    peaks = read_tables(attention_memory.TITLE)[0]
    figure, (left, right) = _figure(
        "Self-attention, width 512, 8 heads: forward and backward"
    )
    for kind, line in LINES.items():
        for name in ("ours", "Keras"):
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
    """Time and peak memory of the convolutions, beside lines of slope 1."""
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


PICTURES: dict[str, tuple[Callable[[pathlib.Path], None], tuple[str, ...]]] = {
    "attention.png": (
        draw_attention,
        (attention.TITLE, attention_memory.TITLE),
    ),
    "convolutions.png": (draw_convolutions, (convolutions.TITLE,)),
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
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("length, tokens")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


if __name__ == "__main__":
    main()
