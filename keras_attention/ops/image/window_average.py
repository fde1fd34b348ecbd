"""Averages of overlapping windows, put together from blocks of the image.

The windows are those of `gather.local_average_pool`, of `2 e - 1` rows every
e rows: window `i` is block `i`, and block `i - 1` without its first row. So a
row is in one window if it is the first of its block, and else in two, if
there is a next one. For TensorFlow alone, and for images that split evenly.

`B` batch, `H` height, `W` width, `C` channels; `h`, `w` height and width of
the result.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.image.sums import multiplies_in_full
from keras_attention.types import Tensor


def average_windows(x: Tensor, extent: int) -> Any:
    """Average windows of an image in strides of `extent`.

    The gradient is put together in the same way, since compilers are slow at
    the one of a pooling.

    Args:
        x: image of shape `(B, H, W, C)`, at least float32; `extent` divides
            H and W, which are known.
        extent: positive stride.

    Returns:
        Tensor of shape `(B, H / extent, W / extent, C)`.
    """
    import tensorflow as tf

    shares = _shares(x, extent)

    @tf.custom_gradient
    def average(x):
        def gradient(upstream):
            each = upstream * shares
            return _spread(_spread(each, extent, 2), extent, 1)

        if inside_xla() or not multiplies_in_full():
            total = _sum_windows(_sum_windows(x, extent, 1), extent, 2)
        else:
            total = _convolve_with_ones(x, extent)
        return total * shares, gradient

    return average(x)


def _shares(x, extent):
    """One by the positions in each window, `(h, w, 1)`."""
    rows, columns = (
        np.full(size // extent, 1 / (2 * extent - 1)) for size in x.shape[1:3]
    )
    rows[:1] = columns[:1] = 1 / extent
    return ops.convert_to_tensor(np.outer(rows, columns)[..., None], x.dtype)


def _sum_windows(x, extent, axis):
    """Sum the windows along one axis, which becomes shorter."""
    parts = _split(x, extent, axis)
    first, *others = ops.unstack(parts, axis=axis + 1)
    others = sum(others, ops.zeros_like(first))
    return first + others + _shift(others, 1, axis)


def _spread(cells, extent, axis):
    """Give every row of an axis the sum of the windows that it is in."""
    both = cells + _shift(cells, -1, axis)
    rows = ops.stack([cells] + [both] * (extent - 1), axis=axis + 1)
    shape = list(ops.shape(cells))
    shape[axis] *= extent
    return ops.reshape(rows, shape)


def _split(x, extent, axis):
    """Split an axis into blocks: `(.., H, ..)` to `(.., h, e, ..)`."""
    shape = list(ops.shape(x))
    shape[axis : axis + 1] = [shape[axis] // extent, extent]
    return ops.reshape(x, shape)


def _shift(x, by, axis):
    """Move an axis on by one, or back, with zeros at the end that is left."""
    size = x.shape[axis]
    index, padding = [slice(None)] * 4, [(0, 0)] * 4
    index[axis] = slice(0, size - 1) if by > 0 else slice(1, size)
    padding[axis] = (1, 0) if by > 0 else (0, 1)
    return ops.pad(x[tuple(index)], padding)


def _convolve_with_ones(x, extent):
    import tensorflow as tf

    size, channels, before = 2 * extent - 1, x.shape[3], (extent - 1, 0)
    return tf.nn.depthwise_conv2d(
        x,
        tf.ones((size, size, channels, 1), x.dtype),
        (1, extent, extent, 1),
        ((0, 0), before, before, (0, 0)),
    )
