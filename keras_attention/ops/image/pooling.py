"""What is left of an image when its positions, or its channels, are pooled.

`B` batch, `H` height, `W` width, `C` channels; sequences and volumes, with one
and three axes of positions, are pooled in the same way. Sums are at
least float32; results have the dtype of the image, and what float16 cannot
hold becomes its largest number.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import backend
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.image.gating import POOLED_POSITIONS
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.masking import fill_masked
from keras_attention.ops.image.masking import masked_means
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.image.sums import sum_channels
from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

FLOAT16_MAX = float(np.finfo("float16").max)


def global_max_pool(x: Tensor, data_format: str = "channels_last") -> Any:
    """Compute the maximum over height and width.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `"channels_last"`.

    Returns:
        Tensor of shape `(B, C)`.

    Example:

    >>> from keras_attention.ops import global_max_pool
    >>> x = np.arange(12, dtype="float32").reshape(1, 2, 3, 2)
    >>> keras.ops.convert_to_numpy(global_max_pool(x))
    array([[10., 11.]], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    return ops.max(x, axis=spatial_axes(data_format, len(x.shape)))


def global_lp_pool(x: Tensor, data_format: str = "channels_last") -> Any:
    """Compute the Euclidean norm over height and width.

    It is a norm, not a mean: it grows with the number of positions. At an
    all-zero channel, where the norm has no gradient, the gradient is zero.
    Arguments and shapes are those of `global_max_pool`.

    Example:

    >>> from keras_attention.ops import global_lp_pool
    >>> x = np.array([3.0, 4.0], "float32").reshape(1, 1, 2, 1)
    >>> keras.ops.convert_to_numpy(global_lp_pool(x))
    array([[5.]], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    squares, axes = (
        ops.square(widen(x)),
        spatial_axes(data_format, len(x.shape)),
    )
    total = sum_over_positions(squares, axes)  # [B, C]
    is_zero = total == 0
    # The inner `where` keeps the root's infinite slope out of the gradient.
    norm = ops.sqrt(ops.where(is_zero, ops.ones_like(total), total))
    return _narrow(ops.where(is_zero, ops.zeros_like(total), norm), x.dtype)


def global_log_sum_exp_pool(
    x: Tensor, data_format: str = "channels_last"
) -> Any:
    """Compute `log(sum(exp(x)))` over height and width.

    The maximum is taken out of the exponentials, so that none overflows.
    Arguments and shapes are those of `global_max_pool`.

    Example:

    >>> from keras_attention.ops import global_log_sum_exp_pool
    >>> x = np.zeros((1, 2, 4, 1), "float32")
    >>> y = keras.ops.convert_to_numpy(global_log_sum_exp_pool(x))
    >>> y.round(4)  # log(8)
    array([[2.0794]], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    wide, axes = widen(x), spatial_axes(data_format, len(x.shape))
    largest = ops.max(wide, axis=axes, initial=-math.inf)  # [B, C]
    largest = ops.stop_gradient(largest)
    # Of -inf alone, the sum of exponentials is zero and its logarithm -inf.
    shift = ops.where(ops.isfinite(largest), largest, ops.zeros_like(largest))
    exponentials = ops.exp(wide - ops.expand_dims(shift, axes))
    pooled = ops.log(sum_over_positions(exponentials, axes)) + shift
    return _narrow(pooled, x.dtype)


GLOBAL_POOLS = {
    "avg": global_average_pool,
    "max": global_max_pool,
    "lp": global_lp_pool,
    "lse": global_log_sum_exp_pool,
}


def global_pools(
    x: Tensor,
    pool_types: Sequence[str],
    data_format: str = "channels_last",
    mask: Tensor | None = None,
) -> Any:
    """Several global poolings, by name, of `P` kinds: `(B, P, C)`.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        pool_types: keys of `GLOBAL_POOLS`.
        data_format: `"channels_last"` or `"channels_first"`.
        mask: boolean tensor of the shape of `x` without channels; positions
            where it is `False` are not pooled, and are zero in `x`. Of an
            example without any other, everything pooled is zero. Defaults to
            `None`, for all positions.
    """
    if mask is not None:
        return ops.stack(
            [_masked_pool(x, name, data_format, mask) for name in pool_types],
            axis=1,
        )
    pooled = {}
    if {"max", "avg"} <= set(pool_types):
        axes = spatial_axes(data_format, len(x.shape))
        pooled["max"], pooled["avg"] = _max_and_mean(x, axes)
    for name in pool_types:
        if name not in pooled:
            pooled[name] = GLOBAL_POOLS[name](x, data_format)
    return ops.stack([pooled[name] for name in pool_types], axis=1)


def _masked_pool(x, name, data_format, mask):
    if name == "avg":
        return masked_means(global_average_pool(x, data_format), mask)
    if name == "lp":  # Zeros add nothing.
        return global_lp_pool(x, data_format)
    filled = fill_masked(x, mask, -math.inf, data_format)
    pooled = GLOBAL_POOLS[name](filled, data_format)
    is_empty = ops.logical_not(ops.any(ops.cast(mask, "bool"), axis=1))
    is_empty = ops.expand_dims(is_empty, -1)
    return ops.where(is_empty, ops.zeros_like(pooled), pooled)


def channel_max_and_mean(x: Tensor, data_format: str = "channels_last") -> Any:
    """Maximum and mean over channels: `(B, H, W, C)` to `(B, H, W, 2)`.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Tensor of shape `(B, H, W, 2)` for both data formats, the maximum
        first.
    """
    return max_and_mean(x, -1 if data_format == "channels_last" else 1)


def max_and_mean(x: Tensor, axis: int) -> Any:
    """Maximum and mean over one axis, stacked on a new last one."""
    return ops.stack(_max_and_mean(x, (axis,)), axis=-1)


def _max_and_mean(x, axes):
    if backend.backend() == "tensorflow":
        return _max_and_mean_tensorflow(x, axes)
    mean = mean_over_positions(x, axes)
    return ops.max(x, axis=axes), ops.cast(mean, x.dtype)


def _max_and_mean_tensorflow(x, axes):
    """As `_max_and_mean`, with a gradient that passes over the image less.

    It is the automatic one: equal maxima share it.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def pool(x):
        maximum, mean = _max_tensorflow(x, axes), _mean_tensorflow(x, axes)

        def gradient(of_maximum, of_mean):
            size = tf.reduce_prod([tf.shape(x)[axis] for axis in axes])
            share = widen(of_mean) / tf.cast(size, widen(of_mean).dtype)
            chosen = x == maximum
            count = _sum_tensorflow(tf.cast(chosen, share.dtype), axes)
            of_chosen = widen(of_maximum) / count + share
            return tf.where(
                chosen, tf.cast(of_chosen, x.dtype), tf.cast(share, x.dtype)
            )

        return (maximum, mean), gradient

    return [tf.squeeze(y, axes) for y in pool(tf.convert_to_tensor(x))]


def _max_tensorflow(x, axes):
    """Maximum over axes, which are kept; a pooling is twice as fast."""
    import tensorflow as tf

    size = x.shape[1:3]
    if _is_of_image(x, axes) and None not in size and not inside_xla():
        return tf.nn.max_pool2d(x, size, 1, "VALID")
    return tf.reduce_max(x, axes, keepdims=True)


def _mean_tensorflow(x, axes):
    """Mean over axes, which are kept; for small images a pooling is faster."""
    import tensorflow as tf

    size, wide = x.shape[1:3], widen(x)
    is_small = None not in size and math.prod(size) <= POOLED_POSITIONS
    if _is_of_channels(axes) and inside_xla():
        mean = _sum_tensorflow(wide, axes) / x.shape[-1]
    elif _is_of_channels(axes):
        mean = tf.reduce_mean(wide, axes, keepdims=True)
    elif _is_of_image(x, axes) and is_small:
        mean = tf.nn.avg_pool2d(wide, size, 1, "VALID")
    else:
        mean = ops.expand_dims(mean_over_positions(wide, axes), axes)
    return tf.cast(mean, x.dtype)


def _sum_tensorflow(x, axes):
    """Sum over axes, which are kept."""
    import tensorflow as tf

    if _is_of_channels(axes):
        return sum_channels(x)
    if len(axes) == 1 and len(x.shape) == 4:  # Channels first.
        return tf.reduce_sum(x, axes, keepdims=True)
    return ops.expand_dims(sum_over_positions(x, axes), axes)


def _is_of_channels(axes):
    return tuple(axes) in ((-1,), (3,))


def _is_of_image(x, axes):
    return tuple(axes) == (1, 2) and len(x.shape) == 4


def channel_windows(x: Tensor, kernel_size: int, padding: str = "zeros") -> Any:
    """The neighbors of each channel: `(B, C)` to `(B, C, K)`.

    Entry `k` of channel `c` is `x[:, c + k - (K - 1) / 2]`.

    Args:
        x: tensor of shape `(B, C)` with a known number of channels.
        kernel_size: odd number `K` of neighbors, the channel included.
        padding: what is beyond the first and the last channel: `"zeros"`, or
            `"circular"` for the channels of the other end.
    """
    padded = pad_channels(x, kernel_size, padding)
    # Not slices that are stacked: LiteRT's int8 converter gives the stack's
    # scale to all that it is made of, back to the image, which is clipped.
    first = np.arange(x.shape[-1], dtype="int32")[:, None]
    return ops.take(padded, first + np.arange(kernel_size, dtype="int32"), 1)


def pad_channels(x: Tensor, kernel_size: int, padding: str = "zeros") -> Any:
    """Give every channel its neighbors: `(B, C)` to `(B, C + K - 1)`.

    The arguments are those of `channel_windows`.
    """
    channels, reach = x.shape[-1], (kernel_size - 1) // 2
    if padding == "circular":
        order = np.arange(-reach, channels + reach) % channels
        return ops.take(x, order, axis=-1)
    return ops.pad(x, ((0, 0), (reach, reach)))


def _narrow(wide, dtype):
    """Cast back to `dtype`; float16 takes its largest number for infinity."""
    if backend.standardize_dtype(dtype) == "float16":
        wide = ops.clip(wide, -FLOAT16_MAX, FLOAT16_MAX)
    return ops.cast(wide, dtype)
