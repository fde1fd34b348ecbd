"""Attention of each position to its row and its column.

`B` batch, `H` height, `W` width, `D` width of queries and keys, `E` width of
values.
"""

from typing import Any

from keras import ops

from keras_attention.ops.attention.options import MASKED
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def criss_cross_attention(
    query: Tensor, key: Tensor, value: Tensor
) -> tuple[Any, Any]:
    """Attends from each position to those of its column and its row.

    A position attends to itself once, as one of its row. The scores of column
    and row are one softmax, of products that are not scaled, in at least
    float32. There are H·W·(H + W) scores, where attention to all positions
    has (H·W)².

    Source: Huang et al., CCNet: Criss-Cross Attention for Semantic
    Segmentation, arXiv:1811.11721, equations 1 and 2.

    Args:
        query: Float tensor of shape `(B, H, W, D)`.
        key: Float tensor of shape `(B, H, W, D)`.
        value: Float tensor of shape `(B, H, W, E)`.

    Returns:
        The output, `(B, H, W, E)`, of the dtype of `value`, and the scores,
        `(B, H, W, H + W)`, of at least float32: those of the column, of which
        its own is 0, and those of the row.

    Example:

    >>> from keras_attention.ops import criss_cross_attention
    >>> x = np.ones((2, 7, 5, 4), "float32")
    >>> output, scores = criss_cross_attention(x, x, x)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 7, 5, 4), (2, 7, 5, 12))
    """
    query, key, value = (ops.convert_to_tensor(x) for x in (query, key, value))
    dtype = value.dtype
    query = widen(query)
    key, value = (ops.cast(x, query.dtype) for x in (key, value))
    # Not `ops.matmul`, which computes float64 in float32 on torch.
    column = ops.einsum("bhwd,bgwd->bhwg", query, key)
    row = ops.einsum("bhwd,bhvd->bhwv", query, key)
    height = ops.shape(query)[1]
    places = ops.arange(height, dtype="int32")
    is_own = ops.equal(places[:, None], places)[:, None]  # [H, 1, H]
    column = ops.where(is_own, ops.cast(MASKED, column.dtype), column)
    scores = ops.softmax(ops.concatenate([column, row], axis=-1), axis=-1)
    output = ops.einsum("bhwg,bgwe->bhwe", scores[..., :height], value)
    output += ops.einsum("bhwv,bhve->bhwe", scores[..., height:], value)
    return ops.cast(output, dtype), scores
