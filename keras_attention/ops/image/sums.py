"""Sums and means that stay right for large images, and are fast everywhere.

A sum of a million numbers, added one after the other, is wrong in its second
digit: 0.1 is too small to be added in full to 50,000. Here no more than a few
dozen numbers are added in a row. Backends and compilers differ in how they
sum, so each has its own path.

On the CPU some sums are matrix products with ones, which add in blocks. Other
devices may round a product's factors: there they are sums.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

# Numbers that may be added one after the other: float32 rounds each sum by
# 6e-8 at most.
IN_A_ROW = 32
# The longest row or column that one pooling, or one product that XLA compiled,
# may add one after the other: the mean of 256 x 256 is right to 4e-6.
LONGEST_ROW = 256
# Into how many parts a longer one is cut, at most.
MOST_PARTS = 16


def mean_over(x: Tensor, axis: int) -> Any:
    """Average one axis in at least float32: `(..., N, ...)` to `(..., ...)`.

    Args:
        x: tensor whose rank is known.
        axis: the axis that is averaged and left out.
    """
    x, size = widen(x), x.shape[axis]
    axis %= len(x.shape)
    if (
        size is not None
        and size <= LONGEST_ROW
        and axis < len(x.shape) - 1
        and keras.backend.backend() == "tensorflow"
        and inside_xla()
        and multiplies_in_full()
    ):
        # XLA's own sums of what it fuses with them are up to 13 times slower.
        return _mean_by_product(x, axis)
    if size is not None and size <= 2 * IN_A_ROW:
        return ops.mean(x, axis)
    if keras.backend.backend() == "torch":
        # It adds in pairs.
        return ops.mean(x, axis)
    if multiplies_in_full() and not inside_xla():
        return _mean_by_product(x, axis)
    return _mean_by_parts(x, axis)


def mean_over_positions(x: Tensor, axes: Sequence[int]) -> Any:
    """Average an image's height and width in at least float32.

    Args:
        x: image of rank 4, or a sequence or volume.
        axes: axes of height and width, the height first; the one axis of a
            sequence, or the three of a volume.

    Returns:
        Tensor of shape `(B, C)`.
    """
    if tuple(axes) == (1, 2) and len(x.shape) == 4:
        if _pools(x):
            return _mean_by_pooling(x)
        return mean_over(mean_over(x, 1), 1)
    for axis in reversed(axes):
        x = mean_over(x, axis)
    return x


def sum_over_positions(x: Tensor, axes: Sequence[int]) -> Any:
    """Sum an image's height and width; see `mean_over_positions`."""
    mean = mean_over_positions(x, axes)
    shape = ops.shape(x)
    number = math.prod(shape[axis] for axis in axes)
    return mean * ops.cast(number, mean.dtype)


def sum_rows(rows: Any) -> Any:
    """Sum over the second axis: `(B, N, C)` to `(B, 1, C)`."""
    if not multiplies_in_full():
        return ops.sum(rows, axis=1, keepdims=True)
    batch, size, _ = ops.shape(rows)
    if not isinstance(size, int):
        if keras.backend.backend() == "tensorflow":
            return _sum_open_parts(_sum_blocks(rows))
    elif size > LONGEST_ROW:
        # How many numbers a product adds in a row depends on the processor.
        fewest = -(-size // LONGEST_ROW)
        for parts in range(fewest, max(MOST_PARTS, 2 * fewest) + 1):
            if size % parts == 0:
                return _sum_few(_sum_equal_parts(rows, parts, size // parts))
        if fewest > MOST_PARTS:
            return _sum_few(_sum_blocks(rows))
        # Without equal parts: each row of these ones takes some of the numbers.
        ones = np.arange(fewest)[:, None] == np.arange(size) * fewest // size
        ones = ops.broadcast_to(
            ops.convert_to_tensor(ones.astype("float32"), rows.dtype),
            (batch, fewest, size),
        )
        return ops.sum(ones @ rows, axis=1, keepdims=True)
    return ops.ones((batch, 1, size), dtype=rows.dtype) @ rows


def _sum_few(sums):
    """Sums up what parts gave, in parts where these are many."""
    if sums.shape[1] > MOST_PARTS:
        return sum_rows(sums)
    return ops.sum(sums, axis=1, keepdims=True)


def _sum_equal_parts(rows, parts, size):
    """The sum of each part: `(B, parts * size, C)` to `(B, parts, C)`."""
    batch, _, channels = ops.shape(rows)
    cut = ops.reshape(rows, (batch * parts, size, channels))
    ones = ops.ones((batch * parts, 1, size), dtype=rows.dtype)
    return ops.reshape(ones @ cut, (batch, parts, channels))


def _sum_blocks(rows):
    """The sums of `LONGEST_ROW` numbers each, of zeros after the last.

    No size of a tensor is 0 on the way, which ONNX takes for another one.
    """
    _, size, _ = ops.shape(rows)
    block = LONGEST_ROW
    if not isinstance(size, int):
        block = ops.minimum(LONGEST_ROW, ops.maximum(size, 1))
    parts = (size + block - 1) // block
    rows = ops.pad(rows, [(0, 0), (0, parts * block - size), (0, 0)])
    return _sum_equal_parts(rows, parts, block)


def _sum_open_parts(rows):
    """Sum a number of rows that is known when the graph runs."""
    batch, size, _ = ops.shape(rows)
    part = ops.maximum(1, (size + MOST_PARTS - 1) // MOST_PARTS)
    parts = (size + part - 1) // part
    # Each row of these ones takes the numbers of one part.
    ones = ops.arange(parts)[:, None] == ops.arange(size) // part
    ones = ops.broadcast_to(ops.cast(ones, rows.dtype), (batch, parts, size))
    return ops.sum(ones @ rows, axis=1, keepdims=True)


def sum_channels(x: Tensor) -> Any:
    """Sum over the last axis: `(..., C)` to `(..., 1)`.

    The product is faster under XLA alone.
    """
    if not (inside_xla() and multiplies_in_full()):
        return ops.sum(x, axis=-1, keepdims=True)
    return ops.tensordot(x, ops.ones((x.shape[-1], 1), dtype=x.dtype), 1)


def multiplies_in_full() -> bool:
    """Whether there is no device that would round a product's factors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_physical_devices("GPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return False


def _pools(x):
    """Whether TensorFlow's poolings of a row and a column are the fastest."""
    if keras.backend.backend() != "tensorflow" or inside_xla():
        return False
    known = all(size and size <= LONGEST_ROW for size in x.shape[1:3])
    return known and multiplies_in_full()


def _mean_by_pooling(x):
    """The mean of each row, then of these: `(B, H, W, C)` to `(B, C)`."""
    import tensorflow as tf

    height, width = x.shape[1:3]
    rows = tf.nn.avg_pool2d(widen(x), (1, width), 1, "VALID")
    return tf.nn.avg_pool2d(rows, (height, 1), 1, "VALID")[:, 0, 0]


def _mean_by_product(x, axis):
    """A product with ones, which adds in blocks."""
    shape = ops.shape(x)
    before, size, after = shape[:axis], shape[axis], shape[axis + 1 :]
    rows = ops.reshape(x, (math.prod(before), size, math.prod(after)))
    total = ops.reshape(sum_rows(rows), (*before, *after))
    return total / ops.cast(size, x.dtype)


def _mean_by_parts(x, axis):
    """The mean of the means of a few numbers each, zeros added to the last."""
    shape = list(ops.shape(x))
    size = shape[axis]
    missing = -size % IN_A_ROW
    if not isinstance(missing, int) or missing:
        padding = [(0, 0)] * len(shape)
        padding[axis] = (0, missing)
        x = ops.pad(x, padding)
    parts = (size + missing) // IN_A_ROW
    shape[axis : axis + 1] = [parts, IN_A_ROW]
    means = ops.mean(ops.reshape(x, shape), axis + 1)
    number = ops.cast(size, x.dtype) / ops.cast(size + missing, x.dtype)
    if isinstance(parts, int) and parts == 1:
        return ops.squeeze(means, axis) / number
    if isinstance(parts, int) and parts > 2 * IN_A_ROW:
        return _mean_by_parts(means, axis) / number
    return ops.mean(means, axis) / number
