"""Windows of an image, shifted or not, as sequences; and back.

An axis is read from position `shift` on, around its end, and cut into windows.
What is missing from the last window is padded. Where a window holds both ends
of the image, or padding, a mask keeps them apart.

`B` batch, `H` height, `W` width, `C` channels; `h`, `w` rows and columns of a
window, `n` windows, `T = h w` positions of a window.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_attention.types import Tensor


@dataclasses.dataclass(frozen=True)
class WindowedAxis:
    """How one axis is cut into windows.

    Args:
        size: positions of the image, a number or, where it is not known, an
            integer tensor.
        window: positions of a window.
        shift: number of the position at which the first window begins, less
            than `window`.
    """

    size: Any
    window: int
    shift: int

    @property
    def count(self) -> Any:
        """Number of windows."""
        # Not of a negative number, which ONNX rounds towards zero.
        return (self.size + self.window - 1) // self.window

    @property
    def padded(self) -> Any:
        """Positions of all windows."""
        return self.count * self.window

    @property
    def start(self) -> Any:
        """The shift; none where there is a single window."""
        if isinstance(self.size, int):
            return self.shift if self.size > self.window else 0
        return self.shift * ops.cast(self.size > self.window, "int32")

    def masks_nothing(self, mask_padding: bool) -> bool:
        """Whether every position of a window may attend to every other."""
        if not isinstance(self.size, int):
            return not self.shift and not mask_padding
        is_padded = self.padded != self.size
        return not self.start and not (is_padded and mask_padding)

    def mask(self, mask_padding: bool) -> Any:
        """Boolean `(n, query, key)`: what attends to what along the axis."""
        places = ops.arange(self.padded, dtype="int32")  # after the shift
        # The last window holds the end of the image, and then its beginning.
        part = ops.cast(places >= self.padded - self.start, "int32")
        part = ops.reshape(part, (self.count, self.window))
        mask = ops.equal(part[:, :, None], part[:, None, :])
        if mask_padding:
            before = (places + self.start) % self.padded
            is_image = ops.reshape(
                before < self.size, (self.count, 1, self.window)
            )
            mask = ops.logical_and(mask, is_image)
        return mask


def split_windows(x: Tensor, rows: WindowedAxis, columns: WindowedAxis) -> Any:
    """Cut an image into windows: `(B, H, W, C)` to `(B n, T, C)`."""
    batch, _, _, channels = ops.shape(x)
    for axis, windows in ((1, rows), (2, columns)):
        x = _pad(x, windows, axis)
        x = _roll(x, windows.start, axis)
    x = ops.reshape(
        x,
        (
            batch,
            rows.count,
            rows.window,
            columns.count,
            columns.window,
            channels,
        ),
    )
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(
        x,
        (
            batch * rows.count * columns.count,
            rows.window * columns.window,
            channels,
        ),
    )


def join_windows(x: Tensor, rows: WindowedAxis, columns: WindowedAxis) -> Any:
    """Put windows together again: `(B n, T, C)` to `(B, H, W, C)`."""
    count, _, channels = ops.shape(x)
    batch = count // (rows.count * columns.count)
    x = ops.reshape(
        x,
        (
            batch,
            rows.count,
            columns.count,
            rows.window,
            columns.window,
            channels,
        ),
    )
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    x = ops.reshape(x, (batch, rows.padded, columns.padded, channels))
    for axis, windows in ((1, rows), (2, columns)):
        x = _roll(x, windows.padded - windows.start, axis)
    return x[:, : rows.size, : columns.size]


def window_mask(
    rows: WindowedAxis, columns: WindowedAxis, mask_padding: bool
) -> Any:
    """Mask of the positions of each window.

    Args:
        rows: how the height is cut.
        columns: how the width is cut.
        mask_padding: whether no position attends to padding.

    Returns:
        Boolean tensor `(n, T, T)`, or `None` if nothing is masked.
    """
    if all(axis.masks_nothing(mask_padding) for axis in (rows, columns)):
        return None
    by_row, by_column = (
        ops.reshape(
            axis.mask(mask_padding), (axis.count, axis.window * axis.window)
        )
        for axis in (rows, columns)
    )
    # [n, h h, w w], of fewer axes than TensorFlow can broadcast.
    mask = ops.logical_and(
        ops.repeat(by_row, columns.count, axis=0)[:, :, None],
        ops.tile(by_column, (rows.count, 1))[:, None],
    )
    height, width = rows.window, columns.window
    count = rows.count * columns.count
    mask = ops.reshape(mask, (count, height, height, width, width))
    mask = ops.transpose(mask, (0, 1, 3, 2, 4))
    return ops.reshape(mask, (count, height * width, height * width))


def relative_index(height: int, width: int) -> np.ndarray:
    """Index of the offset from each position of a window to each other.

    Returns:
        Integers `(T, T)`: with the query at `(a, b)` and the key at `(c, d)`,
        `(a - c + h - 1) (2 w - 1) + b - d + w - 1`.
    """
    row, column = np.divmod(np.arange(height * width), width)
    rows = row[:, None] - row + height - 1
    columns = column[:, None] - column + width - 1
    return (rows * (2 * width - 1) + columns).astype("int32")


def _pad(x, windows, axis):
    if isinstance(windows.size, int) and windows.padded == windows.size:
        return x
    widths = [(0, 0)] * 4
    widths[axis] = (0, windows.padded - windows.size)
    return ops.pad(x, widths)


def _roll(x, start, axis):
    """Begin at `start`, which may be a tensor, and go around the end."""
    if isinstance(start, int) and start in (0, x.shape[axis]):
        return x
    before = (slice(None),) * axis
    parts = [x[(*before, slice(start, None))], x[(*before, slice(start))]]
    return ops.concatenate(parts, axis=axis)
