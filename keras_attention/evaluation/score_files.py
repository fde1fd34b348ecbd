"""Scores in text files: one per line, in the order of the published suites.

The lines of an item are its reference's score and then those of its
contrastive texts; items follow one another. There is nothing else in the
file, so it belongs to one suite and one model.
"""

import math
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.files.json_text import read_text

Path = str | pathlib.Path


def read_scores(
    path: Path, items: Sequence[ContrastiveItem], costs: bool = False
) -> list[tuple[float, ...]]:
    """Read the scores of every item, the reference's first.

    Args:
        path: Path of the file.
        items: the suite that was scored.
        costs: whether lower is better, as in the files that the authors of
            Lingeval97 and ContraWSD publish. The sign is then turned.

    Raises:
        ValueError: naming file and line, if a line is not a number or is
            NaN; or if there is not one line for each text.
    """
    lines = read_text(path).splitlines()
    needed = sum(len(item.texts) for item in items)
    if len(lines) != needed:
        raise ValueError(
            "A file of scores must have one line for every text of the "
            f"suite: {needed} for these {len(items)} items. Received: {path} "
            f"with {len(lines)} lines"
        )
    sign = -1 if costs else 1
    scores = [
        sign * parse_score(line, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
    ]
    return group_scores(scores, items)


def write_scores(path: Path, scores: Iterable[Iterable[float]]) -> None:
    """Write the scores of items, one per line, higher being better."""
    lines = [f"{float(value)!r}\n" for values in scores for value in values]
    pathlib.Path(path).write_text("".join(lines), "utf-8")


def parse_score(line: str, origin: str) -> float:
    """Return the number of a line; `origin` is named by errors."""
    try:
        value = float(line)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(
            f"{origin}: A score must be a number. Received: {line.strip()!r}"
        )
    return value


def group_scores(
    scores: Sequence[float], items: Sequence[ContrastiveItem]
) -> list[tuple[float, ...]]:
    """Group a flat list of scores by item."""
    flat = iter(scores)
    return [tuple(next(flat) for _ in item.texts) for item in items]


def read_finished_scores(path: Path, limit: int) -> list[float]:
    """Read what an interrupted run has scored; mend its last line.

    A line that was being written when the run ended is cut off the file, so
    that the run can go on appending.

    Args:
        path: Path of the file, which need not exist.
        limit: number of texts of the suite.

    Raises:
        ValueError: If there are more lines than texts, or one is not a
            number.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]
    lines = whole.splitlines()
    if len(lines) > limit:
        raise ValueError(
            "A file of scores to go on from must belong to the same suite, "
            f"which has {limit} texts. Received: {path} with {len(lines)} "
            "lines. Name another file."
        )
    scores = [
        parse_score(line, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
    ]
    if whole != text:
        path.write_text(whole, "utf-8")
    return scores
