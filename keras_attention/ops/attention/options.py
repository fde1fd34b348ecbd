"""What modifies attention: one frozen object that every path is given.

`B` batch, `N` heads, `T` queries, `S` keys.
"""

import dataclasses
from typing import Any

# Far below every finite score, and far from the end of float32: masked keys
# get a weight of exactly 0, and a row of masked keys no NaN.
MASKED = -1e30
# What a bias is at least, so that no row of scores is NaN: above `MASKED`, so
# that a masked key has no weight next to it either.
LEAST_BIAS = -1e29
# Metadata of the options that have the axes of the scores.
BY_SCORE = {"axes": "BNTS"}


@dataclasses.dataclass(frozen=True)
class AttentionOptions:
    """Everything that modifies attention.

    Args:
        mask: Boolean tensor, `True` where a query attends to a key; it
            broadcasts to `(B, N, T, S)`.
        bias: Float tensor that is added to the scores; it broadcasts to
            `(B, N, T, S)`.
        distance_bias: Float tensor of shape `(N, T + S - 1)`; its entry
            `[n, j - i + T - 1]` is added to the score of query i and key j.
        causal: Boolean, whether a query attends to no later key.
        window: Integer, a query attends only to keys less than `window`
            positions away.
        scale: Float factor of the products. `None` is `1 / sqrt(D)`.
        logit_soft_cap: Float c; scaled products s become `c * tanh(s / c)`.
        sinks: Float tensor that broadcasts to `(B, N, T, 1)`: a logit for
            each head that is added to the softmax's denominator.
        additive: Float c; queries and keys are not multiplied: their scores
            are c times the sum over features of tanh(q + k).
        head_mixing: Two float matrices `(N, N)`: the scaled products of all
            heads are multiplied by the first one before anything else is
            done to them, the weights by the second one before dropout.
        dropout: Float, rate at which weights are dropped.
        seed: Two integers that determine the dropout.
        return_scores: Boolean, whether the weights before dropout are
            returned as well.
    """

    mask: Any = None
    bias: Any = dataclasses.field(default=None, metadata=BY_SCORE)
    distance_bias: Any = None
    causal: bool = False
    window: int | None = None
    scale: float | None = None
    logit_soft_cap: float | None = None
    sinks: Any = dataclasses.field(default=None, metadata=BY_SCORE)
    additive: Any = None
    head_mixing: Any = None
    dropout: float = 0.0
    seed: Any = None
    return_scores: bool = False

    def in_use(self) -> frozenset[str]:
        """Names of the options that are not at their default."""
        return frozenset(
            field.name
            for field in dataclasses.fields(self)
            if not _is_default(getattr(self, field.name), field.default)
        )

    def by_score(self) -> dict[str, Any]:
        """Options in use whose float tensors have the axes of the scores."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata == BY_SCORE
            and getattr(self, field.name) is not None
        }

    def replace(self, **changes: Any) -> "AttentionOptions":
        """Copy with other values."""
        return dataclasses.replace(self, **changes)


def _is_default(value, default):
    if isinstance(value, bool | int | float):
        return value == default
    return value is default
