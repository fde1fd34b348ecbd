"""Tables of accuracies with 95 % intervals, and what they say."""

from collections.abc import Sequence

import numpy as np

from keras_attention.demo.settings import ALONE
from keras_attention.demo.training import Row


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval.

    By Student's t distribution. Half the width of a single value is NaN.
    """
    from scipy.special import stdtrit

    values = np.asarray(values, "float64")
    if len(values) < 2:
        return float(values.mean()), float("nan")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(stdtrit(len(values) - 1, 0.975) * error)


def difference(row: Row, baseline: Row) -> tuple[float, float]:
    """Return the interval of the differences of two rows, paired by seed."""
    return interval(np.subtract(row.accuracies, baseline.accuracies))


def table(title: str, rows: Sequence[Row]) -> str:
    """Return the rows as text, each compared with the first.

    The mean accuracy of each row and its difference to the first row, with
    95 % intervals over the seeds.
    """
    lines = [title, f"{'':18}{'accuracy, %':>16}{'difference':>18}   by seed"]
    for row in rows:
        mean = _with_interval("{:.1f}", *interval(row.accuracies))
        gain = ""
        if row is not rows[0]:
            gain = _with_interval("{:+.1f}", *difference(row, rows[0]))
        each = "  ".join(f"{value:.1f}" for value in row.accuracies)
        lines.append(f"{row.name:18}{mean:>16}{gain:>18}   {each}")
    return "\n".join(lines)


def conclusion(rows: Sequence[Row]) -> str:
    """Say which rows are above the first, and which one is the highest."""
    baseline, *others = rows
    if len(baseline.accuracies) < 2:
        return "One seed says nothing about the spread: take --seeds 5."
    groups: dict[str, list[str]] = {"above": [], "below": [], "level with": []}
    for row in others:
        gain, half = difference(row, baseline)
        side = "above" if gain - half > 0 else "below"
        if gain - half <= 0 <= gain + half:
            side = "level with"
        groups[side].append(row.name)
    said = [
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {side} the "
        f"{ALONE}"
        for side, names in groups.items()
        if names
    ]
    best = max(rows, key=lambda row: np.mean(row.accuracies))
    last = "{:+.1f} ± {:.1f}".format(*difference(others[-1], others[0]))
    return (
        f"By their intervals, {'; '.join(said)}. Highest mean: {best.name}. "
        f"{others[-1].name} less {others[0].name}: {last}."
    )


def _with_interval(form, mean, half):
    """A mean, with its interval unless it is of a single value."""
    text = form.format(mean)
    return text if np.isnan(half) else f"{text} ± {half:.1f}"


def _listed(names):
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
