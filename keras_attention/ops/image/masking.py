"""Masks of positions: what is padding has no part in means and maxima.

A mask is a boolean tensor of the shape of an image, sequence or volume without
its channels, `True` where there is something. What is masked is replaced, not
multiplied, since it may hold NaN.
"""

import math
from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def fill_masked(
    x: Tensor, mask: Tensor | None, value: float, data_format: str
) -> Any:
    """Put `value` where the mask is `False`; without a mask, return `x`."""
    if mask is None:
        return x
    channels = -1 if data_format == "channels_last" else 1
    mask = ops.expand_dims(ops.cast(mask, "bool"), channels)
    return ops.where(mask, x, ops.cast(value, x.dtype))


def zero_masked(x: Tensor, mask: Tensor | None, data_format: str) -> Any:
    """Put zeros where the mask is `False`; see `fill_masked`."""
    return fill_masked(x, mask, 0.0, data_format)


def num_unmasked(mask: Tensor, dtype: Any) -> Any:
    """Count the positions of each example, at least one: `(B, 1)`."""
    axes = tuple(range(1, len(mask.shape)))
    count = ops.sum(ops.cast(mask, dtype), axis=axes)
    return ops.maximum(count, 1)[:, None]


def masked_means(means: Tensor, mask: Tensor | None) -> Any:
    """Turn means over all positions into those over the unmasked ones.

    Args:
        means: of shape `(B, C)`, of what is zero where it is masked.
        mask: of the positions. `None` returns the means as they are.
    """
    if mask is None:
        return means
    wide = widen(means)
    number: Any = math.prod(ops.shape(mask)[1:])
    share = ops.cast(number, wide.dtype) / num_unmasked(mask, wide.dtype)
    return ops.cast(wide * share, means.dtype)
