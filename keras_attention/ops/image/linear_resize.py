"""Resizes images and volumes by linear interpolation along each axis.

It is a product with one matrix an axis, like the poolings of `grid_pooling`:
every size may be unknown until the image is seen, and all backends and
compilers agree.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def linear_resize(x: Tensor, sizes: Sequence[Any]) -> Any:
    """Interpolate images between two rows and columns, volumes likewise.

    Centers of pixels are aligned, not corners: of `h` rows, row `i` of `H` is
    at (i + 1/2) h / H - 1/2, and at the nearest row where that is outside. A
    smaller image is interpolated between two rows too, and not averaged.

    Args:
        x: image `(B, h, w, C)` or volume `(B, d, h, w, C)`.
        sizes: sizes that are wanted, numbers or scalar tensors.

    Returns:
        Tensor of shape `(B, *sizes, C)`, at least float32.
    """
    x = widen(x)
    for axis, size in enumerate(sizes, 1):
        if isinstance(size, int) and x.shape[axis] == size:
            continue
        matrix = _interpolation_matrix(ops.shape(x)[axis], size, x.dtype)
        x = ops.moveaxis(ops.tensordot(matrix, x, ((1,), (axis,))), 0, axis)
    return x


def _interpolation_matrix(size, to, dtype):
    """Of each of `to` rows, the weights of the `size` that there are."""
    at = ops.cast(ops.arange(to, dtype="int32"), dtype) + 0.5
    at = at * ops.cast(size, dtype) / ops.cast(to, dtype) - 0.5
    at = ops.clip(at, 0, ops.cast(size - 1, dtype))[:, None]
    rows = ops.cast(ops.arange(size, dtype="int32"), dtype)[None]
    return ops.relu(1 - ops.abs(at - rows))  # [to, size]
