"""Values as a distance to the mean of their channel, in its deviations.

`B` batch, `H` height, `W` width, `C` channels.
"""

from typing import Any

from keras import ops

from keras_attention.ops.image.sums import mean_over_positions
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
    centred = x - ops.expand_dims(mean, (1, 2))
    variance = mean_over_positions(ops.square(centred), (1, 2))
    deviation = ops.sqrt(variance + epsilon)
    return centred / ops.expand_dims(deviation, (1, 2))
