"""Windows of an image, shifted or not, as sequences; and back.

An axis is read from position `shift` on, around its end, and cut into windows.
What is missing from the last window is padded. Where a window holds both ends
of the image, or padding, a mask keeps them apart.

A window may be read with a halo, the positions around it: zeros outside of the
image.

`B` batch, `H` height, `W` width, `C` channels; `h`, `w` rows and columns of a
window, `n` windows, `T = h w` positions of a window, `S` of a window and its
halo.
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

    def is_image(self, halo: int) -> Any:
        """Boolean `(n, window + 2 halo)`: what is in the image, not padding.

        For an axis that is not shifted.
        """
        starts = ops.arange(self.count, dtype="int32") * self.window - halo
        places = starts[:, None] + ops.arange(
            self.window + 2 * halo, dtype="int32"
        )
        return ops.logical_and(places >= 0, places < self.size)


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


def split_halos(
    x: Tensor, rows: WindowedAxis, columns: WindowedAxis, halo: tuple[int, int]
) -> Any:
    """Cut an image into windows with halos: `(B, H, W, C)` to `(B n, S, C)`.

    Args:
        x: image.
        rows: how the height is cut, without a shift.
        columns: how the width is cut, without a shift.
        halo: rows above and below a window, and columns to its left and right.
    """
    batch, _, _, channels = ops.shape(x)
    high, wide = halo
    x = _split_halos(x, rows, high, axis=1)  # [B, n_h, S_h, W, C]
    x = _split_halos(x, columns, wide, axis=3)
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    positions = (rows.window + 2 * high) * (columns.window + 2 * wide)
    return ops.reshape(
        x, (batch * rows.count * columns.count, positions, channels)
    )


def halo_mask(
    rows: WindowedAxis, columns: WindowedAxis, halo: tuple[int, int]
) -> Any:
    """Mask of the positions of each window and its halo.

    Args:
        rows: how the height is cut, without a shift.
        columns: how the width is cut, without a shift.
        halo: rows and columns of the halo.

    Returns:
        Boolean tensor `(n, S)`, `True` inside of the image, or `None` if all
        of them are.
    """
    is_divided = all(axis.masks_nothing(True) for axis in (rows, columns))
    if is_divided and not any(halo):
        return None
    by_row, by_column = rows.is_image(halo[0]), columns.is_image(halo[1])
    mask = ops.logical_and(by_row[:, None, :, None], by_column[:, None])
    positions = by_row.shape[1] * by_column.shape[1]
    return ops.reshape(mask, (rows.count * columns.count, positions))


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


def _split_halos(x, windows, halo, axis):
    """Turn an axis into two: of windows, and of one with its halo."""
    size = windows.window + 2 * halo
    # Windows are sliced and joined, not gathered: gradients are slices, too.
    spanned = -(-size // windows.window)
    count = windows.count + spanned - 1
    widths = [(0, 0)] * len(x.shape)
    widths[axis] = (halo, count * windows.window - windows.size - halo)
    before, after = ops.shape(x)[:axis], ops.shape(x)[axis + 1 :]
    x = ops.reshape(
        ops.pad(x, widths), (*before, count, windows.window, *after)
    )
    every = (slice(None),) * axis
    parts = [
        x[(*every, slice(first, first + windows.count))]
        for first in range(spanned)
    ]
    x = parts[0] if spanned == 1 else ops.concatenate(parts, axis=axis + 1)
    return x[(*every, slice(None), slice(size))]


def _roll(x, start, axis):
    """Begin at `start`, which may be a tensor, and go around the end."""
    if isinstance(start, int) and start in (0, x.shape[axis]):
        return x
    before = (slice(None),) * axis
    parts = [x[(*before, slice(start, None))], x[(*before, slice(start))]]
    return ops.concatenate(parts, axis=axis)
