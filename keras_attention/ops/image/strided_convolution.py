"""Depthwise convolution with strides of 2, as a sum of shifted products.

TensorFlow's op takes twenty times as long under XLA as without, on the CPU.
Here the image is taken apart into its even and odd rows and columns, so that
every tap of the kernel is a shift of one of the parts. For TensorFlow alone.

`B` batch, `H` height, `W` width, `C` channels; `h`, `w` height and width of
the result.
"""

import itertools
from typing import Any

from keras import ops

from keras_attention.ops.image.sums import sum_rows
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def strided_depthwise(x: Tensor, kernel: Tensor) -> Any:
    """Convolve each channel with its filter, with strides of 2.

    Args:
        x: image of shape `(B, H, W, C)`, padded already.
        kernel: of shape `(K, K, C)`.

    Returns:
        Tensor of shape `(B, (H - K) // 2 + 1, (W - K) // 2 + 1, C)`, summed
        in at least float32.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(x, kernel):
        size = kernel.shape[0]
        taps = list(itertools.product(range(size), repeat=2))

        def gradient(upstream):
            of_x = _of_image(upstream, kernel, ops.shape(x))
            # The automatic one sums products over positions, and slowly.
            channels = kernel.shape[2]
            shifted = _shifts(x, size)
            sums = [
                sum_rows(
                    ops.reshape(shifted(i, j) * upstream, (1, -1, channels))
                )
                for i, j in taps
            ]
            of_kernel = ops.concatenate(sums, axis=1)
            return of_x, ops.reshape(of_kernel, kernel.shape)

        shifted = _shifts(x, size)
        total = sum(shifted(i, j) * kernel[i, j] for i, j in taps)
        return total, gradient

    return ops.cast(convolve(widen(x), widen(kernel)), x.dtype)


def _shifts(x, size):
    """A function from a tap's row and column to its `(B, h, w, C)` of x."""
    batch, *sizes, channels = ops.shape(x)
    height, width = ((length - size) // 2 + 1 for length in sizes)
    x = ops.pad(x, [(0, 0), *((0, length % 2) for length in sizes), (0, 0)])
    rows, columns = _halves(sizes)
    parts = ops.reshape(x, (batch, rows, 2, columns, 2, channels))

    def shifted(row, column):
        part = parts[:, row // 2 : row // 2 + height, row % 2]
        return part[:, :, column // 2 : column // 2 + width, column % 2]

    return shifted


def _of_image(upstream, kernel, shape):
    """The gradient to the image: its even and odd rows and columns."""
    batch, *sizes, channels = shape
    (rows, columns), size = _halves(sizes), kernel.shape[0]
    height, width = ops.shape(upstream)[1:3]

    def of_part(row, column):
        total = ops.zeros((batch, rows, columns, channels), upstream.dtype)
        for i in range(row, size, 2):
            for j in range(column, size, 2):
                top, left = i // 2, j // 2
                around = [
                    (0, 0),
                    (top, rows - height - top),
                    (left, columns - width - left),
                    (0, 0),
                ]
                total = total + ops.pad(upstream * kernel[i, j], around)
        return total

    parts = [
        ops.stack([of_part(row, column) for column in (0, 1)], axis=3)
        for row in (0, 1)
    ]
    whole = ops.reshape(
        ops.stack(parts, axis=2), (batch, 2 * rows, 2 * columns, channels)
    )
    return whole[:, : sizes[0], : sizes[1]]


def _halves(sizes):
    return [(length + 1) // 2 for length in sizes]
