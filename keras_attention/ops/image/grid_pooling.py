"""Pools an image to a coarser grid of cells, and spreads cells over an image.

`B` batch, `H` height, `W` width, `C` channels; `h`, `w` height and width of
the grid. Images are channels last unless a function takes a data format.
Every size may be unknown until the image is seen.

The poolings here average rectangles, so they are a product with one matrix
for the height and one for the width. That is exact for every size, needs no
padding, and is fast under every compiler.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.image.gating import POOLED_POSITIONS
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.image.window_average import average_windows
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def adaptive_average_pool(x: Tensor, height: Any, width: Any) -> Any:
    """Average an image over a grid of `height` by `width` cells.

    Of `H` rows, cell `i` of `h` averages those from floor(i H / h) to
    ceil((i + 1) H / h), the last not included; alike for columns. Where the
    sizes do not divide, cells share rows. A grid finer than the image repeats
    and averages its values.

    Args:
        x: image of shape `(B, H, W, C)`.
        height: rows of the grid, a number or a scalar tensor.
        width: columns of the grid, a number or a scalar tensor.

    Returns:
        Tensor of shape `(B, height, width, C)`, at least float32.

    Example:

    >>> from keras_attention.ops import adaptive_average_pool
    >>> x = np.arange(5, dtype="float32").reshape(1, 1, 5, 1)
    >>> y = adaptive_average_pool(x, 1, 2)  # of 0, 1, 2 and of 2, 3, 4
    >>> keras.ops.convert_to_numpy(y).ravel()
    array([1., 3.], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    blocks = _blocks(x, height, width)
    is_small = blocks and math.prod(blocks) <= POOLED_POSITIONS
    if (
        is_small
        and keras.backend.backend() == "tensorflow"
        and not inside_xla()
    ):
        import tensorflow as tf

        # Cells of one size, which the op averages in less time.
        return tf.nn.avg_pool2d(widen(x), blocks, blocks, "VALID")
    return _average_cells(
        x, *(_adaptive_cells(size, to) for size, to in _axes(x, height, width))
    )


def local_average_pool(x: Tensor, extent: int) -> Any:
    """Average each neighborhood of `2 extent - 1`, in strides of `extent`.

    Cell `i` is centered at row `i extent`, and averages the positions of its
    window that are in the image: padding does not count.

    Args:
        x: image of shape `(B, H, W, C)`.
        extent: positive stride.

    Returns:
        Tensor of shape `(B, ceil(H / extent), ceil(W / extent), C)`, at least
        float32.

    Example:

    >>> from keras_attention.ops import local_average_pool
    >>> x = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    >>> y = local_average_pool(x, 2)  # of 0, 1 and of 1, 2, 3
    >>> keras.ops.convert_to_numpy(y).ravel()
    array([0.5, 2. ], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    height, width = ops.shape(x)[1:3]
    if keras.backend.backend() == "tensorflow" and _splits(x, extent):
        return average_windows(widen(x), extent)
    return _average_cells(
        x, _window_cells(height, extent), _window_cells(width, extent)
    )


def nearest_resize(x: Tensor, height: Any, width: Any) -> Any:
    """Spread `h` by `w` cells over `height` rows and `width` columns.

    Row `i` takes cell floor(i h / height), in whole numbers, alike for
    columns. Where `h` divides `height` that is a block of rows for each cell.

    Args:
        x: cells of shape `(B, h, w, C)`.
        height: a number or a scalar tensor.
        width: a number or a scalar tensor.

    Returns:
        Tensor of shape `(B, height, width, C)`.
    """
    for axis, (size, to) in enumerate(_axes(x, height, width), 1):
        x = ops.take(x, ops.arange(to, dtype="int32") * size // to, axis=axis)
    return x


def scale_cells(
    x: Tensor, gate: Tensor, data_format: str = "channels_last"
) -> Any:
    """Scale an image by a gate per cell, resized as by `nearest_resize`.

    Where the sizes are known and divide, the gate is broadcast over blocks
    and no gate of the image's size is made.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        gate: tensor of shape `(B, h, w, C)` for both data formats.
        data_format: `"channels_last"` or `"channels_first"`.
    """
    first = data_format == "channels_first"
    axis = 2 if first else 1
    sizes, cells = x.shape[axis : axis + 2], gate.shape[1:3]
    if cells == (1, 1):
        return apply_gate(x, ops.moveaxis(gate, -1, 1) if first else gate)
    if None in (*sizes, *cells) or any(
        size % cell for size, cell in zip(sizes, cells, strict=True)
    ):
        gate = nearest_resize(gate, *ops.shape(x)[axis : axis + 2])
        return apply_gate(x, ops.moveaxis(gate, -1, 1) if first else gate)
    (height, width), (rows, columns) = sizes, cells
    blocks = (rows, height // rows, columns, width // columns)
    channels = gate.shape[-1]
    if keras.backend.backend() == "tensorflow" and not (first or inside_xla()):
        return _scale_cells_tensorflow(x, gate, (-1, *blocks, channels))
    gate = ops.expand_dims(gate, (2, 4))  # [B, h, 1, w, 1, C]
    if first:
        blocks = (channels, *blocks)
        gate = ops.moveaxis(gate, -1, 1)  # [B, C, h, 1, w, 1]
    else:
        blocks = (*blocks, channels)
    scaled = apply_gate(ops.reshape(x, (-1, *blocks)), gate)
    return ops.reshape(scaled, (-1, *x.shape[1:]))


def _scale_cells_tensorflow(x, gate, blocks):
    """As `scale_cells`; the sum over a cell is a pooling, which is faster."""
    import tensorflow as tf

    size = blocks[2], blocks[4]

    @tf.custom_gradient
    def scale(x, gate):
        def gradient(upstream):
            products = widen(upstream * x)
            of_gate = tf.nn.avg_pool2d(products, size, size, "VALID")
            of_gate = of_gate * tf.cast(math.prod(size), of_gate.dtype)
            return scale(upstream, gate), tf.cast(of_gate, gate.dtype)

        spread = tf.reshape(x, blocks) * gate[:, :, None, :, None]
        return tf.reshape(spread, tf.shape(x)), gradient

    return scale(x, tf.cast(gate, x.dtype))


def weighted_sum(x: Tensor, kernel: Tensor) -> Any:
    """Sum over all positions, weighted by a kernel of the image's size.

    Args:
        x: image of shape `(B, H, W, C)`.
        kernel: of shape `(H, W, C)`.

    Returns:
        Tensor of shape `(B, 1, 1, C)`, summed in at least float32.
    """
    products = widen(x) * widen(kernel)
    total = sum_over_positions(products, (1, 2))
    return ops.cast(total[:, None, None], x.dtype)


def _blocks(x, height, width):
    """The size of a cell, where sizes are known and divide; else `None`."""
    sizes = list(zip(x.shape[1:3], (height, width), strict=True))
    if not all(isinstance(number, int) for size in sizes for number in size):
        return None
    if any(size == 0 or size % to for size, to in sizes):
        return None
    return [size // to for size, to in sizes]


def _splits(x, extent):
    """Whether an image is known to consist of whole blocks."""
    if None in x.shape[1:]:
        return False
    return all(size > 0 and size % extent == 0 for size in x.shape[1:3])


def _axes(x, height, width):
    """Of rows and of columns: what the image has, and what is wanted."""
    return zip(ops.shape(x)[1:3], (height, width), strict=True)


def _adaptive_cells(size, cells):
    """Of each cell: the first row in it, and the first one after it."""
    index = ops.arange(cells, dtype="int32")
    return index * size // cells, ((index + 1) * size + cells - 1) // cells


def _window_cells(size, extent):
    """As `_adaptive_cells`, of windows of `2 extent - 1`."""
    index = ops.arange((size + extent - 1) // extent, dtype="int32")
    start = ops.maximum((index - 1) * extent + 1, 0)
    return start, ops.minimum((index + 1) * extent, size)


def _average_cells(x, rows, columns):
    """Average the cells, given their rows' and columns' starts and ends."""
    x = widen(x)
    height, width, channels = ops.shape(x)[1:]
    rows = _averaging_matrix(height, *rows, x.dtype)  # [h, H]
    columns = _averaging_matrix(width, *columns, x.dtype)  # [w, W]
    x = ops.reshape(x, (-1, height, width * channels))
    # Not `ops.matmul`, which turns float64 into float32 on torch.
    x = rows @ x  # [B, h, W C]
    x = ops.reshape(x, (-1, ops.shape(rows)[0], width, channels))
    return columns @ x  # [B, h, w, C]


def _averaging_matrix(size, start, end, dtype):
    start, end = start[:, None], end[:, None]
    index = ops.arange(size, dtype="int32")[None, :]
    inside = ops.cast((index >= start) & (index < end), dtype)
    return inside / ops.cast(end - start, dtype)
