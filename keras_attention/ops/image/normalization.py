"""Values of a channel compared with the channel's others.

`B` batch, `H` height, `W` width, `C` channels.
"""

import math
from typing import Any

from keras import ops

from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def normalize_positions(x: Tensor, epsilon: float) -> Any:
    """Subtract each channel's mean over positions, and divide by its deviation.

    It is a group normalization of one channel a group, without its weights.

    Args:
        x: image of shape `(B, H, W, C)`.
        epsilon: positive number, added to the variance.

    Returns:
        Tensor of the shape of `x`, at least float32.
    """
    x = widen(x)
    mean = mean_over_positions(x, (1, 2))  # [B, C]
    centered = x - ops.expand_dims(mean, (1, 2))
    variance = mean_over_positions(ops.square(centered), (1, 2))
    deviation = ops.sqrt(variance + epsilon)
    return centered / ops.expand_dims(deviation, (1, 2))


def unbiased_deviation(centered: Tensor) -> Any:
    """Compute the standard deviation over positions, `(B, C)`.

    The sum of squares is divided by one less than the number of positions. Of
    a single position, and where all are equal, the deviation is zero, and so
    is its gradient.

    Args:
        centered: image of shape `(B, H, W, C)`, whose means over positions are
            zero.
    """
    _, height, width, _ = ops.shape(centered)
    number: Any = ops.cast(height * width, centered.dtype)
    squares = mean_over_positions(ops.square(centered), (1, 2))
    variance = squares * number / ops.maximum(number - 1, 1)
    is_zero = variance == 0
    # The inner `where` keeps the root's infinite slope out of the gradient.
    root = ops.sqrt(ops.where(is_zero, ops.ones_like(variance), variance))
    return ops.where(is_zero, ops.zeros_like(variance), root)


def softmax_over_positions(logits: Tensor) -> Any:
    """Softmax of each channel over its positions, `(B, H, W, C)`.

    It is computed in at least float32. Of a single position it is one.
    """
    logits = widen(logits)
    largest = ops.max(logits, axis=(1, 2), keepdims=True, initial=-math.inf)
    exponentials = ops.exp(logits - ops.stop_gradient(largest))
    total = sum_over_positions(exponentials, (1, 2))  # [B, C]
    return exponentials / ops.expand_dims(total, (1, 2))
