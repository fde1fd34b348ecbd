"""The energy of SimAM: how much a value stands out among its neighbours."""

from typing import Any

from keras import ops

from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.gating import squeeze
from keras_attention.ops.precision import widen


def inverse_energy(
    x: Any, regularization: float, data_format: str = "channels_last"
) -> Any:
    """The inverse of the least energy of each value, `(B, H, W, C)`.

    With d the distance to the channel's mean over the M positions of its
    image, it is d² / (4 (Σd² / (M - 1) + regularization)) + 1/2. A single
    position has no variance: its sum is zero and is divided by one.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        regularization: positive number λ.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Tensor of the shape of `x`, at least float32.
    """
    height, width = (ops.shape(x)[axis] for axis in spatial_axes(data_format))
    mean, wide = squeeze(widen(ops.convert_to_tensor(x)), data_format)
    distance = wide - expand_channel_gate(mean, data_format)
    mean, squares = squeeze(ops.square(distance), data_format)  # [B, H, W, C]
    number = ops.cast(height * width, squares.dtype)
    variance = mean * (number / ops.maximum(number - 1, 1))  # [B, C]
    scale = expand_channel_gate(4 * (variance + regularization), data_format)
    return squares / scale + 0.5
