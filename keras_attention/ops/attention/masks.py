"""Boolean masks of attention, True where a query attends to a key.

`B` batch, `N` heads, `T` queries, `S` keys. Every mask ends as a tensor that
broadcasts to `(B, N, T, S)`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.ops.attention.options import LEAST_BIAS
from keras_attention.ops.compilation import is_traced
from keras_attention.ops.precision import to_float
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import shapes_broadcast


def padding_mask(mask: Tensor | None) -> Any:
    """Shape the mask of a sequence of keys, `(B, S)`, as `(B, 1, 1, S)`."""
    return ops.expand_dims(mask, (1, 2))


def query_positions(query_length: int, key_length: int) -> Any:
    """Position of each query among the keys: the last one is at the last key.

    With as many queries as keys these are 0, 1, 2, …; with fewer, as in
    decoding, the queries are the newest ones. Negative for a query that comes
    before the first key.
    """
    return ops.arange(query_length, dtype="int32") + (key_length - query_length)


def position_mask(
    query_positions: Any,
    key_positions: Any,
    causal: bool = False,
    window: int | None = None,
) -> Any:
    """Mask by position alone.

    Args:
        query_positions: integers of shape `(..., T)`.
        key_positions: integers of shape `(S,)`.
        causal: a query attends to no later key.
        window: a query attends to the keys less than `window` positions away.

    Returns:
        Boolean tensor of shape `(..., T, S)`, or `None` if nothing is masked.
    """
    if not causal and window is None:
        return None
    distance = ops.subtract(
        ops.expand_dims(query_positions, -1), key_positions
    )  # [T, S]
    mask = distance >= 0 if causal else None
    if window is not None:
        mask = combine_masks(mask, distance < window)
        if not causal:
            mask = combine_masks(mask, distance > -window)
    return mask


def first_tokens(mask: Tensor | None, num_keys: Any, count: int) -> Any:
    """Mask of the first keys of each row that are not masked themselves.

    Args:
        mask: Boolean tensor `(B, S)`, or `None`.
        num_keys: Number of keys S.
        count: Integer, how many keys.

    Returns:
        Boolean tensor `(B, S)`, or `(1, S)` without a mask.
    """
    if mask is None:
        return ops.expand_dims(ops.arange(num_keys, dtype="int32") < count, 0)
    rank = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    return ops.logical_and(mask, rank <= count)


def window_or_first_mask(
    query_positions: Any, is_first: Tensor, causal: bool, window: int
) -> Any:
    """Mask of a window that some keys are in wherever they are.

    Args:
        query_positions: Integers of shape `(T,)` or `(B, T)`.
        is_first: What `first_tokens` returned, `(b, S)`.
        causal: Boolean, whether a query attends to no later key.
        window: Integer, see `position_mask`.

    Returns:
        Boolean tensor `(b, 1, T, S)`.
    """
    keys = ops.arange(ops.shape(is_first)[1], dtype="int32")
    near = position_mask(query_positions, keys, causal, window)
    mask = ops.logical_or(near, ops.expand_dims(is_first, 1))  # [b, T, S]
    mask = combine_masks(mask, position_mask(query_positions, keys, causal))
    return ops.expand_dims(mask, 1)


def causal_mask(
    query_length: int, key_length: int, window: int | None = None
) -> Any:
    """Mask of shape `(T, S)`: query `i` attends to keys up to `S - T + i`.

    Args:
        query_length: number of queries T.
        key_length: number of keys S.
        window: if set, only the last `window` of these keys.
    """
    return position_mask(
        query_positions(query_length, key_length),
        ops.arange(key_length, dtype="int32"),
        causal=True,
        window=window,
    )


def bias_mask(bias: Tensor) -> Any:
    """Mask of a bias: keys with -inf, or what stands for it, are masked."""
    return bias > ops.cast(LEAST_BIAS, bias.dtype)


def combine_masks(*masks: Any) -> Any:
    """Logical and of the masks that are not `None`; `None` if all are."""
    combined = None
    for mask in masks:
        if mask is not None:
            combined = (
                mask if combined is None else ops.logical_and(combined, mask)
            )
    return combined


def expand_to_heads(name: str, tensor: Any, scores_shape: Any) -> Any:
    """Give a mask or bias all four axes of the scores.

    Args:
        name: String, name of the argument, for the error.
        tensor: Tensor of shape `(T, S)`, `(B, T, S)` or `(B, N, T, S)`; an
            axis may have size 1.
        scores_shape: `(B, N, T, S)`, sizes `None` where they are not known.

    Returns:
        The tensor with four axes. Nothing is repeated.

    Raises:
        ValueError: If the shapes do not broadcast.
    """
    check_scores_shape(name, tensor.shape, scores_shape)
    rank = len(tensor.shape)
    if rank == 4:
        return tensor
    return ops.expand_dims(tensor, (0, 1) if rank == 2 else 1)


def check_scores_shape(name: str, shape: Shape, scores_shape: Any) -> None:
    """Check that a mask or bias of this shape broadcasts to the scores.

    Args:
        name: String, name of the argument, for the error.
        shape: Shape of the mask or bias.
        scores_shape: `(B, N, T, S)`, sizes `None` where they are not known.

    Raises:
        ValueError: If it does not.
    """
    shape = tuple(shape)
    full = (
        {
            2: (1, 1, *shape),
            3: (shape[0], 1, *shape[1:]),
            4: shape,
        }.get(len(shape))
        if shape
        else None
    )
    if full is None or not shapes_broadcast(full, scores_shape):
        raise ValueError(
            f"`{name}` must have the shape (queries, keys), (batch, queries, "
            "keys) or (batch, heads, queries, keys), where any size may be 1, "
            f"and broadcast to {tuple(scores_shape)} (batch, heads, queries, "
            f"keys). Received: {name} of shape {shape}"
        )


def to_boolean_mask(name: str, mask: Tensor | None) -> Any:
    """Convert a mask to a boolean tensor.

    Args:
        name: String, name of the argument, for the error.
        mask: Boolean or integer tensor, array or nested list. Integers are
            `True` where they are positive; where their values are known,
            that is outside of compiled functions, they must be 0 and 1.

    Returns:
        Boolean tensor, or the symbolic tensor as it is.

    Raises:
        TypeError: If `mask` is of floats. A float mask that is added to the
            scores is a bias, and cast to booleans it would be inverted.
        ValueError: If integers that are known are neither 0 nor 1, or the
            rows of a list differ in length.
    """
    if isinstance(mask, bool | int | list | tuple) or np.isscalar(mask):
        try:
            mask = np.asarray(mask)
        except ValueError as error:
            raise ValueError(
                f"`{name}` must be a tensor, an array or a nested list with "
                f"rows of one length. Received: {name}={mask!r}"
            ) from error
    if not hasattr(mask, "dtype"):
        raise TypeError(
            f"`{name}` must be a boolean tensor, array or nested list. "
            f"Received: {name}={mask!r} (of type {type(mask).__name__})"
        )
    dtype = (
        str(mask.dtype)
        if isinstance(mask, np.ndarray)
        else keras.backend.standardize_dtype(mask.dtype)
    )
    if dtype != "bool" and "int" not in dtype:
        raise TypeError(
            f"`{name}` must be boolean, True where a position is attended to. "
            f"Received: {name} of dtype {dtype}. A float tensor that is added "
            "to the scores (0 to keep, a large negative number to mask) is a "
            "bias: pass it as `attention_bias`, or as `bias` of the op. If it "
            f"holds ones and zeros, pass `{name} > 0`."
        )
    if isinstance(mask, keras.KerasTensor):
        return mask
    if dtype == "bool":
        return ops.convert_to_tensor(mask)
    # Keras makes tensors of the arrays that a layer is given.
    if isinstance(mask, np.ndarray) or not is_traced(mask):
        values = ops.convert_to_numpy(mask)
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"`{name}` must hold 1 where a position is attended to and 0 "
                "elsewhere, if it is of integers. Received: values from "
                f"{values.min()} to {values.max()}. If every other number "
                f"than 0 is attended to, pass `{name} != 0`."
            )
    return ops.convert_to_tensor(mask) > 0


def check_sequence_mask(
    name: str, mask: Tensor | None, shape: Shape, num_axes: int = 2
) -> None:
    """Check that a mask of positions has the axes of its sequence.

    Args:
        name: String, name of the argument, for the error.
        mask: Boolean tensor.
        shape: Shape of the sequence, `(B, T, ...)`, sizes `None` where they
            are not known.
        num_axes: Number of axes of positions, the batch's included.

    Raises:
        ValueError: If the mask has not the first `num_axes` of them.
    """
    found, expected = tuple(mask.shape), tuple(shape[:num_axes])
    fits = len(found) == num_axes and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(found, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must have the shape (batch, length), here {expected}. "
            f"Received: {name} of shape {found}"
        )


def positions_in_use(
    mask: Tensor | None,
    num_queries: Any,
    num_keys: Any,
    causal: bool = False,
    window: int | None = None,
) -> tuple[Any, Any]:
    """Find the queries that have a key, and the keys that some query has.

    Memory is linear in the lengths, unless `mask` itself differs by query.

    Args:
        mask: Boolean tensor of shape `(b, n, T, S)`, where each size may be
            1.
        num_queries: Number of queries T.
        num_keys: Number of keys S.
        causal: Boolean, whether a query attends to no later key.
        window: Integer, a query attends only to keys less than `window`
            positions away.

    Returns:
        Boolean tensors for queries and keys that broadcast to `(b, n, T)` and
        `(b, n, S)`.
    """
    places = query_positions(num_queries, num_keys)  # [T]
    keys = ops.arange(num_keys, dtype="int32")
    if mask.shape[2] != 1:
        by_position = position_mask(places, keys, causal, window)
        mask = combine_masks(mask, by_position)  # [b, n, T, S]
        return ops.any(mask, axis=3), ops.any(mask, axis=2)
    mask = mask[:, :, 0]  # [b, n, S]
    if not causal and window is None:
        return ops.any(mask, axis=2, keepdims=True), mask
    mask = ops.logical_and(mask, keys >= 0)  # sizes of 1 to S
    # Number of keys before each one that are not masked.
    before = ops.cumsum(ops.cast(mask, "int32"), axis=2)
    before = ops.pad(before, ((0, 0), (0, 0), (1, 0)))  # [b, n, S + 1]
    last = places if causal else num_keys - 1 + ops.zeros_like(places)
    first = ops.zeros_like(places)
    if window is not None:
        first = places - window + 1
        last = last if causal else places + window - 1
        mask = ops.logical_and(mask, keys > num_keys - num_queries - window)
    end, start = (
        ops.take(before, ops.clip(place, 0, num_keys), axis=2)
        for place in (last + 1, first)
    )
    return end > start, mask  # [b, n, T], [b, n, S]


def join_heads(in_use: tuple[Any, Any]) -> tuple[Any, Any]:
    """What `positions_in_use` says, for heads that are mixed.

    A query or key that one head uses has a part in the scores of all.
    """
    queries, keys = (ops.any(mask, axis=1, keepdims=True) for mask in in_use)
    return queries, keys


def replace_masked(x: Tensor, mask: Tensor | None) -> Any:
    """Replace what is masked by zeros, in the gradient as well.

    A product with 0 would keep NaN and infinite values.

    Args:
        x: Tensor of shape `(B, T, ...)`.
        mask: Boolean tensor with the first axes of `x`, sizes 1 allowed.
    """
    missing = len(x.shape) - len(mask.shape)
    mask = ops.reshape(mask, (*ops.shape(mask), *[1] * missing))
    return ops.where(mask, x, ops.zeros((), dtype=x.dtype))


def replace_masked_tokens(
    x: Tensor, mask: Tensor | None, name: str = "mask"
) -> tuple[Any, Any]:
    """Check the mask of a sequence; replace its masked tokens by zeros.

    Args:
        x: Tensor of shape `(B, T, ...)`; integers become floats.
        mask: What was given as mask of shape `(B, T)`, or `None`.
        name: String, name of the argument, for the error.

    Returns:
        The tensor and the boolean mask.
    """
    x = to_float(x)
    if mask is None:
        return x, None
    mask = to_boolean_mask(name, mask)
    check_sequence_mask(name, mask, x.shape)
    return replace_masked(x, mask), mask
