"""The results' file: sections are replaced alone, goals judged by their rows.

Only what needs no peer; `make benchmark-quick` runs the subjects.
"""

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="needs the extra 'benchmark'")

from benchmarks.harness.goals import Goal
from benchmarks.harness.goals import number
from benchmarks.harness.goals import verdicts
from benchmarks.harness.report import HEAD
from benchmarks.harness.report import Table
from benchmarks.harness.report import write_section
from benchmarks.harness.timing import Timings
from benchmarks.harness.timing import interleave

TABLE = Table(
    ["layer", "mode", "ratio"],
    rows=[
        ["SE", "graph", "1.20 (1.10–1.30)"],
        ["SE", "XLA", "1.30 (1.20–1.40)"],
        ["ECA", "graph", "–"],
        ["CBAM", "graph", "1/8"],
    ],
)


def test_a_section_is_replaced_alone(tmp_path):
    path = tmp_path / "RESULTS.md"
    for title, value in (("One", "1"), ("Two", "2"), ("One", "3")):
        table = Table(["a", "b"], "Text.", [[value, "x"]])
        write_section(title, f"make {value}", [table], path)
    text = path.read_text()
    assert text.startswith(HEAD)
    assert text.count("## One") == text.count("## Two") == 1
    assert text.index("## One") < text.index("## Two")
    assert "| 3 | x |" in text and "| 1 | x |" not in text
    assert "`make 3`" in text and "Text.\n\n| a | b |\n| --- | --- |" in text
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.05 (1.00–1.10)", 1.05),
        ("16,384", 16384),
        ("1/8", 0.125),
        ("-3", -3),
        ("–", None),
    ],
)
def test_a_cells_number(cell, value):
    assert number(cell) == value


@pytest.mark.parametrize(
    ("rows", "least", "found"),
    [
        ({"layer": "SE"}, False, 1.3),
        ({"layer": "SE"}, True, 1.2),
        ({"layer": ("SE", "CBAM"), "mode": "graph"}, False, 1.2),
        (None, True, 0.125),
    ],
)
def test_a_goal_takes_the_worst_of_its_rows(rows, least, found):
    assert Goal("g", "ratio", 1, least, rows).found([TABLE]) == found


def test_a_goal_without_rows():
    for rows in ({"layer": "BAM"}, {"layer": "ECA"}):
        with pytest.raises(ValueError, match="No row for the goal 'g'"):
            Goal("g", "ratio", 1, rows=rows).found([TABLE])


def test_verdicts():
    goals = (
        Goal("a", "ratio", 1.3, rows={"layer": "SE"}),
        Goal("b", "ratio", 1.2, rows={"layer": "SE"}),
        Goal("c", "ratio", 1.25, True, {"layer": "SE"}),
    )
    table = verdicts(goals, [TABLE], "Note.")
    assert [row[-1] for row in table.rows] == ["met", "missed", "missed"]
    assert table.rows[2] == ["c", "≥ 1.25", "1.2", "missed"]


def test_ratios_are_taken_round_by_round():
    seconds = {"a": np.array([1.0, 4.0, 9.0]), "b": np.array([1.0, 2.0, 3.0])}
    ratio = Timings(seconds).ratio("a", "b", 0.5)
    assert (ratio.low, ratio.median, ratio.high) == (3, 4, 5)
    assert str(ratio) == "4.00 (3.00–5.00)"


def test_the_order_of_the_cases_turns_with_the_rounds():
    calls = []
    cases = {name: lambda name=name: calls.append(name) for name in "abc"}
    timings = interleave(cases, 4)
    assert {len(found) for found in timings.seconds.values()} == {4}
    runs = [name for i, name in enumerate(calls) if calls[i - 1] != name]
    warming, *rounds = "abc", "abc", "bca", "cab", "abc"
    assert "".join(runs) == warming + "".join(rounds)
