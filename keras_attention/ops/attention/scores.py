"""Attention whose scores are not scaled dot products.

`B` batch, `T` queries, `S` keys, `D` width of queries and keys, `E` width of
values. Scores and their softmax are computed in at least float32.
"""

from typing import Any

from keras import ops

from keras_attention.ops.attention.dot_product import matmul
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

# Finite, so that a row whose scores are all masked has no NaN before it is
# replaced by zeros.
MASKED = -1e30


def additive_scores(query: Tensor, key: Tensor, scale: Any = None) -> Any:
    """Scores of every query and key: the sum over D of scale · tanh(q + k).

    The tanh of each pair is in memory: B · T · S · D numbers.

    Args:
        query: Float tensor, `(B, T, D)`.
        key: Float tensor, `(B, S, D)`.
        scale: Float tensor, `(D,)`. Defaults to `None`, ones.

    Returns:
        Scores before the softmax, `(B, T, S)`, in at least float32.

    Reference:
        Bahdanau et al., Neural Machine Translation by Jointly Learning to
        Align and Translate, ICLR 2015, arXiv:1409.0473, appendix A.1.2.

    Example:

    >>> query, key = np.zeros((1, 2, 3)), np.ones((1, 4, 3))
    >>> scores = keras_attention.ops.additive_scores(query, key)
    >>> tuple(scores.shape)
    (1, 2, 4)
    >>> round(float(scores[0, 0, 0]), 3)  # 3 tanh(1)
    2.285
    """
    query, key = widen(ops.convert_to_tensor(query)), ops.convert_to_tensor(key)
    key = ops.cast(key, query.dtype)
    sums = ops.tanh(ops.expand_dims(query, 2) + ops.expand_dims(key, 1))
    if scale is None:
        return ops.sum(sums, axis=-1)
    scale = ops.cast(scale, query.dtype)
    return matmul(sums, scale[:, None])[..., 0]  # [B, T, S]


def product_scores(query: Tensor, key: Tensor) -> Any:
    """Unscaled products: `(B, T, D)` and `(B, S, D)` to `(B, T, S)`."""
    query = widen(query)
    return matmul(query, ops.swapaxes(ops.cast(key, query.dtype), 1, 2))


def masked_softmax(scores: Tensor, mask: Any = None) -> Any:
    """Softmax over the last axis; zeros where the mask is `False`.

    Args:
        scores: Float tensor, `(..., S)`.
        mask: Boolean tensor that broadcasts to the scores, or `None`.

    Returns:
        Tensor of the scores' shape. A row without keys has zeros alone.
    """
    if scores.shape[-1] == 0:
        return scores  # Some backends find no maximum of nothing.
    if mask is not None:
        scores = ops.where(mask, scores, MASKED)
    if scores.shape[-1] == 1:
        # Keras warns about a softmax of one number.
        weights = 1 + 0 * scores
    else:
        weights = ops.softmax(scores, axis=-1)
    return weights if mask is None else ops.where(mask, weights, 0)


def weighted_mean(weights: Tensor, value: Tensor) -> Any:
    """Sum values by weights: `(B, T, S)` and `(B, S, E)` to `(B, T, E)`."""
    wide = widen(value)
    return ops.cast(matmul(ops.cast(weights, wide.dtype), wide), value.dtype)
