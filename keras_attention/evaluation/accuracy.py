"""A share of right decisions, and how sure one can be of it."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `total` decisions, with a confidence interval.

    The interval is Wilson's score interval. Unlike the textbook's
    value ± z·√(p(1-p)/n) it stays inside [0, 1] and does not shrink to
    nothing when all decisions are right.

    Args:
        correct: number of right decisions.
        total: number of decisions, at least 1.
        confidence: coverage of the interval.

    Raises:
        TypeError, ValueError: for numbers that do not fit together.

    Reference:
        Wilson, Probable inference, the law of succession, and statistical
        inference, JASA 22, 1927.

    Example:

    >>> from keras_attention.evaluation import Accuracy
    >>> accuracy = Accuracy(9, 10)
    >>> accuracy.value
    0.9
    >>> print(accuracy)
    90.0% [59.6, 98.2] (9 of 10)
    """

    correct: int
    total: int
    confidence: float = 0.95

    def __post_init__(self):
        check_positive_integer("total", self.total)
        check_positive_integer("correct", self.correct, minimum=0)
        check_number("correct", self.correct, 0, self.total)
        check_number(
            "confidence",
            self.confidence,
            0,
            1,
            exclusive_minimum=True,
            exclusive_maximum=True,
        )

    @property
    def value(self) -> float:
        """The share of right decisions."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of Wilson's interval."""
        z = NormalDist().inv_cdf((1 + self.confidence) / 2)
        n, p = self.total, self.value
        middle = p + z * z / (2 * n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        # Rounding must not push an end past 0 or 1.
        return max(0, (middle - half) / scale), min(1, (middle + half) / scale)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.value:.1f}% [{100 * low:.1f}, {100 * high:.1f}] "
            f"({self.correct} of {self.total})"
        )
