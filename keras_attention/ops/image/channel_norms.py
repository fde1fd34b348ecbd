"""The size of each channel, alone and among all channels.

`B` batch, `H` height, `W` width, `C` channels.
"""

from typing import Any

from keras import ops

from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

NORMS = ("l2", "l1")


def channel_norms(
    x: Tensor, norm: str, epsilon: float, data_format: str = "channels_last"
) -> Any:
    """Compute the norm of each channel over its positions, `(B, C)`.

    Source: Yang et al., Gated Channel Transformation, arXiv:1909.11519.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`; or a sequence or volume.
        norm: `"l2"`, √(Σ x² + epsilon), or `"l1"`, Σ |x|.
        epsilon: positive number; it keeps the root's gradient finite.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Tensor of at least float32.

    Example:

    >>> from keras_attention.ops import channel_norms
    >>> x = np.array([3.0, -4.0], "float32").reshape(1, 1, 2, 1)
    >>> y = keras.ops.convert_to_numpy(channel_norms(x, "l1", 1e-5))
    >>> y
    array([[7.]], dtype=float32)
    """
    wide = widen(ops.convert_to_tensor(x))
    axes = spatial_axes(data_format, len(wide.shape))
    if norm == "l1":
        return sum_over_positions(ops.abs(wide), axes)
    return ops.sqrt(sum_over_positions(ops.square(wide), axes) + epsilon)


def normalize_channels(sizes: Any, norm: str, epsilon: float) -> Any:
    """Divide sizes by their mean size over all channels, `(B, C)`.

    Args:
        sizes: tensor of shape `(B, C)`.
        norm: `"l2"` divides by √(mean s² + epsilon), `"l1"` by
            mean |s| + epsilon.
        epsilon: positive number.
    """
    if norm == "l1":
        mean = ops.mean(ops.abs(sizes), axis=-1, keepdims=True)
        return sizes / (mean + epsilon)
    mean = ops.mean(ops.square(sizes), axis=-1, keepdims=True)
    return sizes / ops.sqrt(mean + epsilon)
