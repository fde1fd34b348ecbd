"""Sums over the positions of an image, weighted by softmax or by products.

`B` batch, `H` height, `W` width, `C` channels, `N` positions that ask, `M`
positions that answer, `D` width of what they are compared by. Everything is
computed in at least float32 and returned so.
"""

import math
from typing import Any

from keras import ops

from keras_attention.ops.image.masking import num_unmasked
from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def softmax_pool(
    x: Tensor, logits: Tensor, mask: Tensor | None = None
) -> tuple[Any, Any]:
    """Average an image by the softmax of logits over its positions.

    Source: Cao et al., GCNet, arXiv:1904.11492, equation 5.

    Args:
        x: image of shape `(B, H, W, C)`, or a sequence or volume.
        logits: of shape `(B, H, W)`.
        mask: boolean tensor of the shape of `logits`; positions where it is
            `False` have no weight, and are finite in `x`. Defaults to `None`,
            for all positions.

    Returns:
        The mean, `(B, C)`, and the weights, `(B, H, W)`, which sum to one,
        or to zero where all is masked.

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
    axes = tuple(range(1, len(logits.shape)))
    if mask is not None:
        is_kept = ops.cast(mask, "bool")
        lowest = ops.min(logits, axis=axes, keepdims=True, initial=math.inf)
        logits = ops.where(is_kept, logits, lowest)
    largest = ops.max(logits, axis=axes, keepdims=True, initial=-math.inf)
    weights = ops.exp(logits - ops.stop_gradient(largest))
    if mask is not None:
        weights = ops.where(is_kept, weights, ops.zeros_like(weights))
    # `weights[..., None]` is a slice that LiteRT lacks.
    total = sum_over_positions(ops.expand_dims(weights, -1), axes)  # [B, 1]
    if mask is not None:
        total = ops.where(total == 0, ops.ones_like(total), total)
    weights = weights / ops.reshape(total, (-1, *(1 for _ in axes)))
    mean = sum_over_positions(wide * ops.expand_dims(weights, -1), axes)
    return mean, weights  # [B, C] and [B, H, W]


def softmax_scores(
    query: Tensor,
    key: Tensor,
    scale: float = 1.0,
    key_mask: Tensor | None = None,
) -> Any:
    """Softmax over the positions of `key`: `(B, N, M)`, rows sum to one.

    Args:
        query: of shape `(B, N, D)`.
        key: of shape `(B, M, D)`.
        scale: factor of the products, at the exponent.
        key_mask: boolean tensor `(B, M)`; keys where it is `False` have a
            score of zero. Defaults to `None`, for all keys.
    """
    products = _products(query, key, scale)
    if key_mask is None:
        return _softmax(products)
    is_kept = ops.cast(key_mask, "bool")[:, None]  # [B, 1, M]
    # Finite, so that a row without any key has no NaN before it is cleared.
    masked = ops.cast(-1e30, products.dtype)
    scores = _softmax(ops.where(is_kept, products, masked))
    return ops.where(is_kept, scores, ops.zeros_like(scores))


def product_scores(
    query: Tensor,
    key: Tensor,
    scale: float = 1.0,
    key_mask: Tensor | None = None,
) -> Any:
    """Products of queries and keys over the number of keys: `(B, N, M)`."""
    products = _products(query, key, scale)
    return _share(products, key_mask)


def sum_scores(
    query_term: Any, key_term: Any, key_mask: Tensor | None = None
) -> Any:
    """`relu(query_term + key_term)` over the number of keys: `(B, N, M)`.

    Args:
        query_term: of shape `(B, N, 1)`.
        key_term: of shape `(B, M, 1)`.
        key_mask: see `softmax_scores`.
    """
    # tf2onnx loses the batch of a dense layer's transposed output.
    key_term = ops.expand_dims(widen(key_term)[..., 0], 1)  # [B, 1, M]
    return _share(ops.relu(widen(query_term) + key_term), key_mask)


def weighted_values(scores: Tensor, value: Tensor) -> Any:
    """Sum the values by the scores: `(B, N, M)` and `(B, M, D)`."""
    wide = ops.cast(widen(value), scores.dtype)
    return ops.einsum("bnm,bmd->bnd", scores, wide)


def _share(scores, key_mask):
    """Divide `(B, N, M)` by the number of keys, and clear masked ones."""
    if key_mask is None:
        return scores / ops.cast(ops.shape(scores)[2], scores.dtype)
    is_kept = ops.cast(key_mask, "bool")[:, None]  # [B, 1, M]
    count = num_unmasked(key_mask, scores.dtype)[..., None]  # [B, 1, 1]
    return ops.where(is_kept, scores, ops.zeros_like(scores)) / count


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
