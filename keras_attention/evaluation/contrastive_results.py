"""What came out of a contrastive test, in total and by group."""

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from keras_attention.evaluation.accuracy import Accuracy
from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.contrastive_item import Decision
from keras_attention.validation import nearest

# The bins of the published suites, each given by its largest value; what is
# larger than all of them is a bin of its own.
DISTANCE_BINS = tuple(range(16))
LINGEVAL97_FREQUENCY_BINS = (
    *(0, 1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 10000),
)
CONTRAWSD_FREQUENCY_BINS = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class ContrastiveResults:
    """The decisions of a model, counted as one likes.

    Args:
        decisions: right or wrong, with what is known of each question.
        left_out: number of items that were not counted, since the model does
            not know their words.

    Raises:
        ValueError: If there is no decision to count.

    Example:

    >>> from keras_attention.evaluation import ContrastiveItem
    >>> from keras_attention.evaluation import ContrastiveResults
    >>> near, far = (
    ...     ContrastiveItem("good", ["bad", "worse"], metadata={"distance": d})
    ...     for d in (1, 20)
    ... )
    >>> results = ContrastiveResults.from_scores(
    ...     [near, far], [[-1, -2, -3], [-1, -2, -1]])
    >>> results.accuracy.value
    0.5
    >>> {d: a.correct for d, a in results.by("distance").items()}
    {1: 1, 20: 0}
    """

    def __init__(self, decisions: Iterable[Decision], left_out: int = 0):
        self.decisions = list(decisions)
        self.left_out = left_out
        if not self.decisions:
            raise ValueError(
                "There must be at least one decision to count. Received: "
                f"decisions=[], {left_out} items left out"
            )

    @classmethod
    def from_scores(
        cls,
        items: Sequence[ContrastiveItem],
        scores: Sequence[Sequence[float]],
    ) -> "ContrastiveResults":
        """Judge the scores of the items, in their order; higher is better."""
        if len(items) != len(scores):
            raise ValueError(
                "There must be scores for every item. Received: scores of "
                f"{len(scores)} items for {len(items)} items"
            )
        return cls(
            decision
            for item, values in zip(items, scores, strict=True)
            for decision in item.decide(values)
        )

    @property
    def accuracy(self) -> Accuracy:
        """Accuracy over all decisions."""
        return _count(self.decisions)

    @property
    def keys(self) -> list[str]:
        """What the decisions can be grouped by."""
        return list(
            dict.fromkeys(k for d in self.decisions for k in d.metadata)
        )

    def by(
        self, *keys: str, bins: Sequence[float] | None = None
    ) -> dict[Any, Accuracy]:
        """Accuracy of each group, in the order of the groups' values.

        Decisions that lack one of the keys are not counted, as in the
        evaluation of the published suites.

        Args:
            *keys: of the items' metadata. Several keys are crossed: the
                groups are named by tuples.
            bins: for one key, the ascending largest value of each bin, such
                as `DISTANCE_BINS`; groups are then named `"3"`, `"6-10"`,
                `">15"`.

        Raises:
            ValueError: If no decision has the keys.
        """
        groups = defaultdict(list)
        for decision in self.decisions:
            if all(key in decision.metadata for key in keys):
                group = tuple(decision.metadata[key] for key in keys)
                groups[group].append(decision)
        if not keys or not groups:
            missing = [key for key in keys if key not in self.keys]
            raise ValueError(
                "Decisions are grouped by keys of their items' metadata: "
                f"{', '.join(map(repr, self.keys)) or 'there are none'}. "
                f"Received: keys={keys}."
                + "".join(nearest(key, self.keys) for key in missing)
            )
        if len(keys) > 1:
            ordered = sorted(
                groups, key=lambda group: tuple(map(_order, group))
            )
            return {group: _count(groups[group]) for group in ordered}
        values = sorted((group[0] for group in groups), key=_order)
        if bins is None:
            return {value: _count(groups[value,]) for value in values}
        binned = defaultdict(list)
        for value in values:
            binned[_bin(value, bins)].extend(groups[value,])
        return {name: _count(found) for name, found in binned.items()}

    def table(self, *keys: str, bins: Sequence[float] | None = None) -> str:
        """The groups of `by`, one per line, and the total, as text."""
        rows = [("all", str(self.accuracy))]
        for group, accuracy in (
            self.by(*keys, bins=bins).items() if keys else ()
        ):
            name = group if isinstance(group, tuple) else (group,)
            label = ", ".join(
                f"{k} {v}" for k, v in zip(keys, name, strict=True)
            )
            rows.append((label, str(accuracy)))
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)

    def __str__(self) -> str:
        return str(self.accuracy)


def _count(decisions: Sequence[Decision]) -> Accuracy:
    return Accuracy(sum(d.correct for d in decisions), len(decisions))


def _order(value: Any) -> tuple:
    """Numbers by size, before everything else by name."""
    is_number = isinstance(value, int | float)
    return (not is_number, value if is_number else str(value))


def _bin(value: float, bins: Sequence[float]) -> str:
    for lower, upper in zip((None, *bins), bins, strict=False):
        if value <= upper:
            # A bin of whole numbers starts one above the bin before.
            start = 0 if lower is None else lower + 1
            return str(upper) if start == upper else f"{start}-{upper}"
    return f">{bins[-1]}"
