"""Convolutions whose output channels see a group of the input's channels."""

from typing import Any

import keras
from keras import ops

from keras_attention.types import Tensor


def grouped_convolution(
    x: Tensor, kernel: Tensor, groups: int, strides: int = 1, dilation: int = 1
) -> Any:
    """Convolve each group of channels by itself, with zeros around.

    Both sides have as many zeros: strided outputs are centered on the
    positions 0, `strides`, 2 · `strides`, ... of the image, whatever its
    size.

    Args:
        x: image of shape `(B, H, W, C)`.
        kernel: of shape `(K, L, C / groups, F)` with K and L odd; its outputs
            are ordered by group.
        groups: number of groups; it divides C and F.
        strides: distance of the outputs, in rows and in columns.
        dilation: distance of the kernel's taps.

    Returns:
        Tensor of shape `(B, ceil(H / strides), ceil(W / strides), F)`.
    """
    rows, columns = ((k - 1) // 2 * dilation for k in kernel.shape[:2])
    x = ops.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    after = 1
    # TensorFlow has no convolution with both strides and dilation.
    if strides > 1 and dilation > 1:
        if dilation % strides == 0:
            # All taps of all outputs fall on every strides-th position.
            x = x[:, ::strides, ::strides]
            dilation //= strides
        else:
            after = strides
        strides = 1
    y = _convolve(x, kernel, groups, strides, dilation)
    return y[:, ::after, ::after] if after > 1 else y


def _convolve(x, kernel, groups, strides, dilation):
    if groups == 1 or keras.backend.backend() != "tensorflow":
        return _convolve_natively(x, kernel, strides, dilation)
    return _convolve_by_group(x, kernel, groups, strides, dilation)


def _convolve_natively(x, kernel, strides, dilation):
    return ops.conv(
        x,
        kernel,
        strides=strides,
        padding="valid",
        data_format="channels_last",
        dilation_rate=dilation,
    )


def _convolve_by_group(x, kernel, groups, strides, dilation):
    """One convolution for each group.

    TensorFlow's grouped convolution has no gradient on the CPU, except under
    XLA, and is slower there than this.
    """
    parts = zip(
        ops.split(x, groups, axis=-1),
        ops.split(kernel, groups, axis=-1),
        strict=True,
    )
    return ops.concatenate(
        [
            _convolve_natively(part, part_kernel, strides, dilation)
            for part, part_kernel in parts
        ],
        axis=-1,
    )
