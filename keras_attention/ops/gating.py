"""Squeeze and scale: what every gate does to an image before and after.

`B` batch, `H` height, `W` width, `C` channels.
"""

import keras
from keras import ops

HALF = ("float16", "bfloat16")


def spatial_axes(data_format: str) -> tuple[int, int]:
    """Return the height and width axes of a rank-4 image."""
    return (1, 2) if data_format == "channels_last" else (2, 3)


def global_average_pool(x, data_format: str = "channels_last"):
    """Mean over height and width: `(B, H, W, C)` to `(B, C)`.

    Half-precision images are summed in float32, since 65,504 is soon passed
    by a sum over positions.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Tensor of shape `(B, C)`, of the dtype of `x`.
    """
    wide = widen(x)
    return ops.cast(ops.mean(wide, axis=spatial_axes(data_format)), x.dtype)


def widen(x):
    """Cast half-precision floats to float32; leave wider floats alone."""
    is_half = keras.backend.standardize_dtype(x.dtype) in HALF
    return ops.cast(x, "float32") if is_half else x


def apply_gate(x, gate):
    """Scale `x` by `gate`, which broadcasts to it."""
    return x * ops.cast(gate, x.dtype)


def expand_channel_gate(gate, data_format: str = "channels_last"):
    """Reshape a gate per channel, `(B, C)`, so that it scales an image."""
    axis = spatial_axes(data_format)[0]
    return ops.expand_dims(gate, (axis, axis + 1))


def expand_spatial_gate(gate, data_format: str = "channels_last"):
    """Reshape a gate per position, `(B, H, W)`, so that it scales an image."""
    return ops.expand_dims(gate, -1 if data_format == "channels_last" else 1)


def to_channels_last(x, data_format: str):
    """Turn an image of either data format into `(B, H, W, C)`.

    TensorFlow has no channels-first convolutions on the CPU.
    """
    return x if data_format == "channels_last" else ops.moveaxis(x, 1, -1)
