"""The gate of SimAM: how far a value is from the others of its channel."""

import math
from typing import Any

from keras import ops

from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import means_and_image
from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.masking import num_unmasked
from keras_attention.ops.image.masking import zero_masked
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def simam(
    x: Tensor,
    regularization: float = 1e-4,
    data_format: str = "channels_last",
    mask: Tensor | None = None,
) -> Any:
    """Compute the gate of SimAM, one for each value of an image.

    With d the distance to the channel's mean over the M positions of its
    image, it is sigmoid(d² / (4 (Σd² / (M - 1) + regularization)) + 1/2),
    whose argument is the inverse of the least energy that separates the value
    from the others. A single position has no variance: its sum is zero and is
    divided by one. Source: Yang et al., SimAM, ICML 2021, equations 5 and 6.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`; or a sequence or volume.
        regularization: positive number λ. Defaults to 1e-4.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `"channels_last"`.
        mask: boolean tensor of the shape of `x` without channels; positions
            where it is `False` count for nothing, and are zero in `x`.
            Defaults to `None`, for all positions.

    Returns:
        Tensor of the shape of `x`, at least float32.

    Example:

    >>> from keras_attention.ops import simam
    >>> x = np.array([0.0, 0.0, 0.0, 4.0], "float32").reshape(1, 2, 2, 1)
    >>> keras.ops.convert_to_numpy(simam(x)).ravel().round(3)
    array([0.637, 0.637, 0.637, 0.743], dtype=float32)
    """
    x = widen(ops.convert_to_tensor(x))
    rank = len(x.shape)
    number: Any = math.prod(
        ops.shape(x)[axis] for axis in spatial_axes(data_format, rank)
    )
    number = ops.cast(number, x.dtype)
    share: Any = 1
    if mask is not None:
        unmasked = num_unmasked(mask, x.dtype)  # [B, 1]
        number, share = unmasked, number / unmasked
    mean, wide = means_and_image(x, data_format)
    distance = wide - expand_channel_gate(mean * share, data_format, rank)
    distance = zero_masked(distance, mask, data_format)
    mean, squares = means_and_image(
        ops.square(distance), data_format
    )  # [B, H, W, C]
    mean = mean * share
    variance = mean * (number / ops.maximum(number - 1, 1))  # [B, C]
    scale = expand_channel_gate(
        4 * (variance + regularization), data_format, rank
    )
    return ops.sigmoid(squares / scale + 0.5)
