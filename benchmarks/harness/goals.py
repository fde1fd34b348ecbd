"""What a subject's tables should show, and whether they do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.harness.report import Table


@dataclass(frozen=True)
class Goal:
    """A limit of one column, in the rows that have some cells.

    Attributes:
        what: the goal in words, without its limit.
        column: name of the column; a cell counts by its first number, or its
            first fraction such as `1/8.2`.
        limit: what the column should be at most, or at least.
        least: whether it is the least that is wanted.
        rows: column to the cell, or the cells, that a row must have there.
        table: index of the table.
    """

    what: str
    column: str
    limit: float
    least: bool = False
    rows: Mapping[str, str | tuple[str, ...]] | None = None
    table: int = 0

    def found(self, tables: list[Table]) -> float:
        """The column's value in the row that is farthest from the goal."""
        table = tables[self.table]
        values = []
        for cells in table.rows:
            row = dict(zip(table.columns, cells, strict=True))
            value = number(row[self.column])
            if value is not None and self._is_wanted(row):
                values.append(value)
        if not values:
            raise ValueError(f"No row for the goal {self.what!r}.")
        return min(values) if self.least else max(values)

    def _is_wanted(self, row):
        for name, cells in (self.rows or {}).items():
            cells = (cells,) if isinstance(cells, str) else cells
            if row[name] not in cells:
                return False
        return True


def number(cell: str) -> float | None:
    """The first number or fraction of a cell; `None` for "–".

    Thousands may be set apart: "16,384".
    """
    found = re.match(r"-?[\d,]+(\.\d+)?(/[\d,.]+)?", cell)
    if not found:
        return None
    above, *below = found[0].replace(",", "").split("/")
    return float(above) / (float(below[0]) if below else 1)


def verdicts(goals: tuple[Goal, ...], tables: list[Table], note: str) -> Table:
    """A table of the goals, under a note on those that are missed."""
    table = Table(["goal", "wanted", "found", ""], note)
    for goal in goals:
        found = goal.found(tables)
        met = found >= goal.limit if goal.least else found <= goal.limit
        table.add(
            goal.what,
            f"{'≥' if goal.least else '≤'} {goal.limit:g}",
            f"{found:.3g}",
            "met" if met else "missed",
        )
    return table
