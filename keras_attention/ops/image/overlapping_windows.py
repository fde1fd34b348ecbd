"""Windows of an image that overlap, and the sum of what they hold.

A window of K x K is around every `strides`-th position, the first one
included, with zeros around the image.

`B` batch, `H` height, `W` width, `C` channels; `h`, `w` rows and columns of
windows: `H` and `W` divided by `strides` and rounded up.
"""

from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def unfold_windows(x: Tensor, kernel_size: int, strides: int) -> Any:
    """Returns the windows of an image: `(B, H, W, C)` to `(B, h, w, K², C)`.

    Args:
        x: Image.
        kernel_size: Odd integer K.
        strides: Integer, distance of the windows.
    """
    batch, height, width, channels = ops.shape(x)
    rows, columns = _count(height, strides), _count(width, strides)
    reach = kernel_size // 2
    # So that a slice from every position of the kernel has whole cells.
    padding = [
        (reach, count * strides - size + kernel_size - 1 - reach)
        for count, size in ((rows, height), (columns, width))
    ]
    x = ops.pad(x, [(0, 0), *padding, (0, 0)])
    found = []
    for top in range(kernel_size):
        for left in range(kernel_size):
            part = x[
                :, top : top + rows * strides, left : left + columns * strides
            ]
            cells = (batch, rows, strides, columns, strides * channels)
            part = ops.reshape(part, cells)[:, :, 0, :, :channels]
            found.append(part)  # [B, h, w, C]
    return ops.stack(found, axis=3)


def fold_windows(
    windows: Tensor, size: tuple[Any, Any], kernel_size: int, strides: int
) -> Any:
    """Adds up windows where they are: `(B, h, w, K², C)` to `(B, H, W, C)`.

    The transpose of `unfold_windows`: what lies outside of the image is
    dropped.

    Args:
        windows: Windows.
        size: Height and width of the image.
        kernel_size: Odd integer K.
        strides: Integer, distance of the windows.
    """
    batch, rows, columns, _, channels = ops.shape(windows)
    reach, more = kernel_size // 2, kernel_size - 1
    total: Any = 0
    for number in range(kernel_size**2):
        top, left = divmod(number, kernel_size)
        part = ops.reshape(
            windows[:, :, :, number], (batch, rows, 1, columns, channels)
        )
        # To the first position of each cell, zeros at the others.
        part = ops.pad(
            part,
            [
                (0, 0),
                (0, 0),
                (0, strides - 1),
                (0, 0),
                (0, (strides - 1) * channels),
            ],
        )
        part = ops.reshape(
            part, (batch, rows * strides, columns * strides, channels)
        )
        total = total + ops.pad(
            part, [(0, 0), (top, more - top), (left, more - left), (0, 0)]
        )
    height, width = size
    return total[:, reach : reach + height, reach : reach + width]


def average_cells(x: Tensor, size: int) -> Any:
    """Returns the means of cells: `(B, H, W, C)` to `(B, h, w, C)`.

    The last cells of an axis may be smaller; their mean is over what they
    have.

    Args:
        x: Image.
        size: Integer, rows and columns of a cell.
    """
    if size == 1:
        return x
    batch, height, width, channels = ops.shape(x)
    rows, columns = _count(height, size), _count(width, size)
    padding = [(0, rows * size - height), (0, columns * size - width)]
    cells = ops.reshape(
        ops.pad(widen(x), [(0, 0), *padding, (0, 0)]),
        (batch, rows, size, columns, size, channels),
    )
    total = ops.sum(cells, axis=(2, 4))
    counts = [
        ops.minimum(size, length - size * ops.arange(count, dtype="int32"))
        for length, count in ((height, rows), (width, columns))
    ]
    count = ops.expand_dims(counts[0], 1) * counts[1]
    mean = total / ops.cast(ops.expand_dims(count, -1), total.dtype)
    return ops.cast(mean, x.dtype)


def _count(length, strides):
    # Not of a negative number, which ONNX rounds towards zero.
    return (length + strides - 1) // strides
