"""Who may look at whom: boolean masks, True where a key is seen.

`B` batch, `N` heads, `T` queries, `S` keys. Every mask ends as a tensor that
broadcasts to `(B, N, T, S)`.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.validation import shapes_broadcast


def padding_mask(mask: Any) -> Any:
    """Shape the mask of a sequence of keys, `(B, S)`, as `(B, 1, 1, S)`."""
    return ops.expand_dims(mask, (1, 2))


def query_positions(query_length: int, key_length: int) -> Any:
    """Place of each query among the keys: the last one is at the last key.

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
        causal: a query sees no later key.
        window: a query sees the keys less than `window` positions away.

    Returns:
        Boolean tensor of shape `(..., T, S)`, or `None` if all is seen.
    """
    if not causal and window is None:
        return None
    distance = ops.expand_dims(query_positions, -1) - key_positions  # [T, S]
    seen = distance >= 0 if causal else None
    if window is not None:
        seen = combine_masks(seen, distance < window)
        if not causal:
            seen = combine_masks(seen, distance > -window)
    return seen


def causal_mask(
    query_length: int, key_length: int, window: int | None = None
) -> Any:
    """Mask of shape `(T, S)`: query `i` sees keys up to `S - T + i`.

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
        name: of the argument, for the error.
        tensor: of shape `(T, S)`, `(B, T, S)` or `(B, N, T, S)`; an axis may
            have size 1.
        scores_shape: `(B, N, T, S)`, sizes `None` where they are not known.

    Returns:
        The tensor with four axes. Nothing is repeated.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    shape = tuple(tensor.shape)
    full = {
        2: (1, 1, *shape),
        3: (shape[0], 1, *shape[1:]),
        4: shape,
    }.get(len(shape))
    if full is None or not shapes_broadcast(full, scores_shape):
        raise ValueError(
            f"`{name}` must have the shape (queries, keys), (batch, queries, "
            "keys) or (batch, heads, queries, keys), where any size may be 1, "
            f"and broadcast to {tuple(scores_shape)} (batch, heads, queries, "
            f"keys). Received: {name} of shape {shape}"
        )
    if len(shape) == 4:
        return tensor
    return ops.expand_dims(tensor, (0, 1) if len(shape) == 2 else 1)


def check_boolean_mask(name: Any, mask: Any) -> Any:
    """Return `mask`; refuse one that is not boolean.

    Raises:
        TypeError: for another dtype. A float mask that is added to the scores
            is a bias, and cast to booleans it would be turned upside down.
    """
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if dtype != "bool":
        advice = (
            "A float tensor that is added to the scores (0 to keep, a large "
            "negative number to hide) is a bias: give it as the bias. If it "
            f"holds ones and zeros, give `{name} > 0`."
            if "float" in dtype
            else f"Give `{name} > 0` if 1 means 'seen'."
        )
        raise TypeError(
            f"`{name}` must be boolean, True where a key is seen. "
            f"Received: {name} of dtype {dtype}. {advice}"
        )
    return mask
