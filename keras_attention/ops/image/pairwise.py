"""Sums over the positions of an image, weighted by softmax or by products.

`B` batch, `H` height, `W` width, `C` channels, `N` positions that ask, `M`
positions that answer, `D` width of what they are compared by. Everything is
computed in at least float32 and returned so.
"""

from typing import Any

from keras import ops

from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def softmax_pool(x: Tensor, logits: Tensor) -> tuple[Any, Any]:
    """Average an image by the softmax of logits over its positions.

    Source: Cao et al., GCNet, arXiv:1904.11492, equation 5.

    Args:
        x: image of shape `(B, H, W, C)`.
        logits: of shape `(B, H, W)`.

    Returns:
        The mean, `(B, C)`, and the weights, `(B, H, W)`, which sum to one.

    Example:

    >>> from keras_attention.ops import softmax_pool
    >>> x = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    >>> logits = np.log(np.array([[[3.0, 1.0]]], "float32"))
    >>> mean, weights = softmax_pool(x, logits)
    >>> keras.ops.convert_to_numpy(mean).round(5)
    array([[1.]], dtype=float32)
    """
    wide = widen(ops.convert_to_tensor(x))
    logits = ops.cast(logits, wide.dtype)
    largest = ops.max(logits, axis=(1, 2), keepdims=True)
    weights = ops.exp(logits - ops.stop_gradient(largest))
    total = sum_over_positions(weights[..., None], (1, 2))  # [B, 1]
    weights = weights / total[..., None]  # [B, H, W]
    mean = sum_over_positions(wide * weights[..., None], (1, 2))
    return mean, weights


def softmax_scores(query: Tensor, key: Tensor, scale: float = 1.0) -> Any:
    """Softmax over the positions of `key`: `(B, N, M)`, rows sum to one.

    Args:
        query: of shape `(B, N, D)`.
        key: of shape `(B, M, D)`.
        scale: factor of the products, at the exponent.
    """
    return _softmax(_products(query, key, scale))


def product_scores(query: Tensor, key: Tensor, scale: float = 1.0) -> Any:
    """Products of queries and keys over the number of keys: `(B, N, M)`."""
    count = ops.cast(ops.shape(key)[1], widen(key).dtype)
    return _products(query, key, scale / count)


def sum_scores(query_term: Any, key_term: Any) -> Any:
    """`relu(query_term + key_term)` over the number of keys: `(B, N, M)`.

    Args:
        query_term: of shape `(B, N, 1)`.
        key_term: of shape `(B, M, 1)`.
    """
    key_term = ops.swapaxes(widen(key_term), 1, 2)  # [B, 1, M]
    count = ops.cast(ops.shape(key_term)[2], key_term.dtype)
    return ops.relu(widen(query_term) + key_term) / count


def weighted_values(scores: Tensor, value: Tensor) -> Any:
    """Sum the values by the scores: `(B, N, M)` and `(B, M, D)`."""
    wide = ops.cast(widen(value), scores.dtype)
    return ops.einsum("bnm,bmd->bnd", scores, wide)


def _softmax(logits):
    """Softmax over the last axis."""
    if logits.shape[-1] == 1:
        # One position is right here; Keras' own softmax warns of it.
        return 1 + 0 * logits
    return ops.softmax(logits, axis=-1)


def _products(query, key, scale):
    # Not `ops.matmul`, which computes float64 in float32 on torch, and so
    # makes a float32 key of Keras' dense layer.
    query = widen(query) * scale
    key = ops.cast(key, query.dtype)
    return ops.einsum("bnd,bmd->bnm", query, key)
