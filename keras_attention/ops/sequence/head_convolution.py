"""Convolutions over time in which a head of channels shares one filter.

`B` batch, `T` time, `D` channels, `H` heads, `R = D / H` channels of a head,
`K` taps. Time is also cut into `N` blocks of `S` positions; a block reads a
window of `L >= S + K - 1` positions.

Both functions have a plain path, `shifted_convolution`, that the faster paths
are compared with: a convolution op, and products with a band matrix for each
block. Which one runs is decided in `_forward`, here and nowhere else; all of
them are linear in T in time and memory.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.precision import to_float
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor
from keras_attention.validation import check_choice

PADDINGS = ("same", "causal", "valid")
BLOCK = 32
# From more taps than this, one multiply-add for each would make graphs that
# are slow to compile.
MOST_SHIFTS = 64
# Up to so many taps, the gradient of the depthwise op itself is faster.
FEW_TAPS = 7


def lightweight_convolution(
    x: Tensor, filters: Any, padding: str = "same"
) -> Any:
    """Computes a depthwise convolution with one filter for each head.

        y[b, t, c] = sum over j of filters[h(c), j] * x[b, t + j - P, c]

    Head h(c) is `c * H // D`: heads are contiguous blocks of channels. Out of
    the sequence x is zero. The filters are used as they are; the layer
    `LightweightConv1D` normalizes them by a softmax.

    Args:
        x: Float tensor of shape `(B, T, D)`; D is a multiple of H.
        filters: Float tensor of shape `(H, K)`, cast to the dtype of `x`.
        padding: `"same"` centers the filter, P = (K - 1) // 2; `"causal"`
            ends it at t, P = K - 1; `"valid"` takes x as padded already,
            P = 0 and K - 1 positions fewer come out. Defaults to `"same"`.

    Returns:
        Tensor of shape `(B, T, D)`, or `(B, T - K + 1, D)` for `"valid"`.

    Raises:
        ValueError: If the shapes do not fit each other, or for an unknown
            padding.

    Reference:
        Wu et al., Pay Less Attention with Lightweight and Dynamic
        Convolutions, arXiv:1901.10430, section 3.

    Example:

    >>> x = np.arange(8, dtype="float32").reshape(1, 4, 2)
    >>> mean = np.full((1, 2), 0.5, "float32")
    >>> y = keras_attention.ops.lightweight_convolution(x, mean, "causal")
    >>> keras.ops.convert_to_numpy(y)[0, :, 0].tolist()
    [0.0, 1.0, 3.0, 5.0]
    """
    return _convolve(_lightweight, 2, x, filters, padding)


def dynamic_convolution(x: Tensor, filters: Any, padding: str = "same") -> Any:
    """Computes a depthwise convolution with filters by head and position.

        y[b, t, c] = sum over j of filters[b, t, h(c), j] * x[b, t + j - P, c]

    Head h(c) is `c * H // D`: heads are contiguous blocks of channels. Out of
    the sequence x is zero. The filters are used as they are; the layer
    `DynamicConv1D` predicts and normalizes them.

    Args:
        x: Float tensor of shape `(B, T, D)`; D is a multiple of H.
        filters: Float tensor of shape `(B, T, H, K)`, cast to the dtype of
            `x`. T is the length of the output.
        padding: See `lightweight_convolution`. Defaults to `"same"`.

    Returns:
        Tensor of shape `(B, T, D)`, or `(B, T - K + 1, D)` for `"valid"`.

    Raises:
        ValueError: If the shapes do not fit each other, or for an unknown
            padding.

    Reference:
        Wu et al., Pay Less Attention with Lightweight and Dynamic
        Convolutions, arXiv:1901.10430, section 4.

    Example:

    >>> x = np.ones((2, 5, 6), "float32")
    >>> filters = np.ones((2, 5, 3, 2), "float32")
    >>> y = keras_attention.ops.dynamic_convolution(x, filters, "causal")
    >>> keras.ops.convert_to_numpy(y)[0, :, 0].tolist()
    [1.0, 2.0, 2.0, 2.0, 2.0]
    """
    return _convolve(_dynamic, 4, x, filters, padding)


def shifted_convolution(x: Tensor, filters: Any, padding: str = "same") -> Any:
    """Computes either convolution as a sum of K shifted products.

    The plain path, with which the others are compared.

    Args:
        x: Float tensor of shape `(B, T, D)`.
        filters: Float tensor of shape `(H, K)` or `(B, T, H, K)`.
        padding: See `lightweight_convolution`. Defaults to `"same"`.
    """
    return _convolve(_shifted, len(filters.shape), x, filters, padding)


def pad_widths(kernel_size: int, padding: str) -> tuple[int, int]:
    """Return the zeros that a padding adds before and after the sequence."""
    left = {"same": (kernel_size - 1) // 2, "causal": kernel_size - 1}
    if padding == "valid":
        return 0, 0
    return left[padding], kernel_size - 1 - left[padding]


def _convolve(function, rank, x, filters, padding):
    """Check and convert the arguments; run `function`."""
    check_choice("padding", padding, PADDINGS)
    x = to_float(ops.convert_to_tensor(x))
    filters = ops.cast(filters, x.dtype)
    shapes = tuple(x.shape), tuple(filters.shape)
    fits = len(shapes[0]) == 3 and len(shapes[1]) == rank
    if not fits or shapes[0][2] % shapes[1][-2]:
        wanted = "(heads, taps)"
        if rank == 4:
            wanted = "(batch, time, heads, taps)"
        raise ValueError(
            "`x` must have the shape (batch, time, channels) and `filters` "
            f"{wanted}, where the channels are a multiple of the heads. "
            f"Received: x of shape {shapes[0]}, filters of shape {shapes[1]}"
        )
    pads = pad_widths(shapes[1][-1], padding)
    if rank == 4:
        expected = shapes[0][0], _known_length(shapes, pads)
        for size, other in zip(shapes[1][:2], expected, strict=True):
            if None not in (size, other) and size != other:
                raise ValueError(
                    "`filters` must have one filter for each output position, "
                    f"{expected} (batch, time). Received: x of shape "
                    f"{shapes[0]}, filters of shape {shapes[1]}"
                )
    return function(x, filters, pads)


def _known_length(shapes, pads):
    """Length of the output, `None` if it is not known."""
    length, taps = shapes[0][1], shapes[1][-1]
    return None if length is None else length + sum(pads) - taps + 1


def _lightweight(x, filters, pads):
    heads, taps = filters.shape
    # TensorFlow's depthwise op fails on nothing, or makes something of it.
    sizes = x.shape[0], _output_length(x, taps, pads)
    if any(isinstance(size, int) and size == 0 for size in sizes):
        return _shifted(x, filters, pads)
    forward = _forward(filters)
    if keras.backend.backend() == "torch" or (
        forward is _depthwise and taps <= FEW_TAPS
    ):
        return forward(x, filters, pads)

    @ops.custom_gradient
    def convolve(x, filters):
        def gradient(*arguments, upstream=None):
            dy = arguments[0] if upstream is None else upstream
            flipped = ops.flip(filters, axis=-1)
            dx = _lightweight(dy, flipped, tuple(taps - 1 - p for p in pads))
            return dx, _filter_gradient(x, dy, heads, taps, pads)

        return forward(x, filters, pads), gradient

    return convolve(x, filters)


def _dynamic(x, filters, pads):
    forward = _forward(filters)
    heads, taps = filters.shape[-2:]
    # Second order through a custom gradient would be wrong on torch.
    if keras.backend.backend() == "torch":
        return forward(x, filters, pads)

    @ops.custom_gradient
    def convolve(x, filters):
        def gradient(*arguments, upstream=None):
            dy = arguments[0] if upstream is None else upstream
            if forward is _blocks:
                return _block_gradient(x, filters, dy, pads)
            dx = _shifted_transpose(dy, filters, pads)
            return dx, _position_gradient(x, dy, heads, taps, pads)

        return forward(x, filters, pads), gradient

    return convolve(x, filters)


def _forward(filters):
    """Choose the path of the forward pass.

    XLA makes one loop of the shifted products, and has no good depthwise
    convolution on CPU. Without XLA each product would pass over memory.
    """
    if inside_xla():
        return _shifted if filters.shape[-1] <= MOST_SHIFTS else _blocks
    return _depthwise if len(filters.shape) == 2 else _blocks


def _shifted(x, filters, pads):
    heads, taps = filters.shape[-2:]
    x = widen(_pad_time(x, *pads))
    x = _split_last(x, heads)  # [B, T + K - 1, H, R]
    total = 0
    for tap in range(taps):
        end = tap - taps + 1 or None
        weight = ops.expand_dims(filters[..., tap], -1)  # [(B, T,) H, 1]
        total = total + x[:, tap:end] * ops.cast(weight, x.dtype)
    return ops.cast(_merge_last(total), filters.dtype)  # [B, T, D]


def _shifted_transpose(dy, filters, pads):
    """Gradient of `_shifted` to x, as K shifted products too."""
    heads, taps = filters.shape[-2:]
    widths = [taps - 1 - width for width in pads]
    wide = widen(_pad_time(dy, *widths))
    wide = _split_last(wide, heads)  # [B, T' + K - 1, H, R]
    filters = ops.cast(_pad_time(filters, *widths), wide.dtype)
    total = 0
    for tap in range(taps):
        part = slice(taps - 1 - tap, -tap or None)
        total = total + wide[:, part] * filters[:, part, :, tap, None]
    return ops.cast(_merge_last(total), dy.dtype)  # [B, T', D]


def _depthwise(x, filters, pads):
    heads, taps = filters.shape
    kernel = ops.repeat(filters, x.shape[-1] // heads, axis=0)  # [D, K]
    kernel = ops.expand_dims(ops.transpose(kernel), -1)  # [K, D, 1]
    # Some backends' ops sum in half precision.
    dtype, x, kernel = x.dtype, widen(x), widen(kernel)
    # The op's own padding saves a copy of x.
    same = taps % 2 == 1 and pads == pad_widths(taps, "same")
    padding = "same" if same else "valid"
    batch, length = ops.shape(x)[0], _output_length(x, taps, pads)
    kernel = _without_gradient_of_nothing(kernel, batch)
    known = not ops.is_tensor(length)
    if not same:
        # One position at least, where the length may be 0.
        more = 0 if known else ops.maximum(1 - length, 0)
        x = _pad_time(x, pads[0], pads[1] + more)
    y = ops.depthwise_conv(
        x, kernel, padding=padding, data_format="channels_last"
    )
    y = ops.cast(y, dtype)
    if same:
        return y
    # An empty batch comes out with another length.
    y = y if known else y[:, :length]
    return ops.reshape(y, (batch, length, x.shape[2]))


def _without_gradient_of_nothing(kernel, batch):
    """The kernel; its gradient is zero if the batch is empty.

    TensorFlow's depthwise op then returns whatever was in memory.
    """
    if keras.backend.backend() != "tensorflow" or isinstance(batch, int):
        return kernel
    import tensorflow as tf

    @tf.custom_gradient
    def keep(kernel):
        def gradient(upstream):
            return tf.where(batch > 0, upstream, tf.zeros_like(upstream))

        return tf.identity(kernel), gradient

    return keep(kernel)


def _blocks(x, filters, pads):
    heads, taps = filters.shape[-2:]
    length = _output_length(x, taps, pads)
    block, number = _cut(length)
    windows = _windows(x, heads, taps, pads, block, number)  # [B, H, N, L, R]
    bands = _bands(filters, block, number, windows.shape[3])  # [B, H, N, S, L]
    # `ops.matmul` makes float32 of float64 on torch.
    y = bands @ windows  # [B, H, N, S, R]
    return _merge_last(_from_blocks(y, length))


def _block_gradient(x, filters, dy, pads):
    """Gradients of the dynamic convolution, as products for each block."""
    heads, taps = filters.shape[-2:]
    length = _output_length(x, taps, pads)
    block, number = _cut(length)
    windows = _windows(x, heads, taps, pads, block, number)  # [B, H, N, L, R]
    width = windows.shape[3]
    bands = _bands(filters, block, number, width)  # [B, H, N, S, L]
    dy = _to_blocks(_split_last(dy, heads), block, number)  # [B, H, N, S, R]
    d_bands = dy @ ops.swapaxes(windows, -1, -2)
    d_windows = ops.swapaxes(bands, -1, -2) @ dy
    d_filters = _from_blocks(_unskew(d_bands, taps), length)
    dx = _overlap_add(d_windows, block)  # [B, T', H, R]
    end = pads[0] + ops.shape(x)[1]
    return _merge_last(dx[:, pads[0] : end]), d_filters


def _position_gradient(x, dy, heads, taps, pads):
    """Gradient to the filters of each position, `(B, T, H, K)`."""
    length = _output_length(x, taps, pads)
    block, number = _cut(length)
    windows = _windows(x, heads, taps, pads, block, number)  # [B, H, N, L, R]
    dy = _to_blocks(_split_last(dy, heads), block, number)  # [B, H, N, S, R]
    d_bands = dy @ ops.swapaxes(windows, -1, -2)
    return _from_blocks(_unskew(d_bands, taps), length)


def _filter_gradient(x, dy, heads, taps, pads):
    """Gradient to filters shared over batch and time, `(H, K)`.

    All blocks of a head are added up by one product.
    """
    length, batch = _output_length(x, taps, pads), ops.shape(x)[0]
    block, number = _cut(length)
    more = -(-(taps - 1) // block)
    count, before = number + more, pads[0]
    x = _pad_time(x, before, count * block - before - ops.shape(x)[1])
    x = _by_offset(x, heads, block, count)  # [H, S, B, N', R]
    dy = _pad_time(dy, 0, number * block - length)
    dy = _by_offset(dy, heads, block, number)  # [H, S, B, N, R]

    def rows(tensor):
        size = batch * number * tensor.shape[-1]
        return ops.reshape(widen(tensor), (heads, block, size))

    parts = [
        rows(dy) @ ops.swapaxes(rows(x[:, :, :, i : number + i]), 1, 2)
        for i in range(more + 1)
    ]
    d_bands = ops.concatenate(parts, axis=-1)  # [H, S, L]
    d_filters = _unskew(d_bands[None, :, None], taps)  # [1, H, 1, S, K]
    return ops.cast(ops.sum(d_filters, axis=(0, 2, 3)), dy.dtype)


def _by_offset(x, heads, block, count):
    """`(B, T, D)` to `(H, S, B, N, R)`."""
    batch, _, channels = ops.shape(x)
    x = ops.reshape(x, (batch, count, block, heads, channels // heads))
    return ops.transpose(x, (3, 2, 0, 1, 4))


def _output_length(x, taps, pads):
    return ops.shape(x)[1] + sum(pads) - taps + 1


def _cut(length):
    """Return the positions of a block and the number of blocks."""
    block = max(min(BLOCK, length), 1) if isinstance(length, int) else BLOCK
    # Not `-(-length // block)`: converters to ONNX divide towards zero.
    return block, (length + block - 1) // block


def _windows(x, heads, taps, pads, block, number):
    """What each block reads, `(B, H, N, L, R)`: blocks and what follows."""
    # The window is a whole number of blocks, so that it needs no gather.
    more = -(-(taps - 1) // block)
    count = number + more
    x = _pad_time(x, pads[0], count * block - pads[0] - ops.shape(x)[1])
    x = _to_blocks(_split_last(x, heads), block, count)  # [B, H, N', S, R]
    parts = [x[:, :, i : number + i] for i in range(more + 1)]
    return ops.concatenate(parts, axis=3)


def _overlap_add(windows, block):
    """The transpose of `_windows`, its padding left on: `(B, T', H, R)`."""
    more = windows.shape[3] // block - 1
    total = 0
    for i in range(more + 1):
        part = windows[:, :, :, i * block : (i + 1) * block]
        widths = [(0, 0), (0, 0), (i, more - i), (0, 0), (0, 0)]
        total = total + ops.pad(part, widths)
    return _from_blocks(total)


def _bands(filters, block, number, width):
    """Band matrices `(B, H, N, S, L)` of the filters of each block.

    Row s has the filter of position s from column s on. Written row after
    row with one column more, that is the filters themselves, zeros between.
    """
    if len(filters.shape) == 2:
        filters = ops.repeat(filters[None, :, None, None], block, axis=3)
    else:
        filters = _to_blocks(filters, block, number)  # [B, H, N, S, K]
    taps = filters.shape[-1]
    padded = ops.pad(filters, [(0, 0)] * 4 + [(0, width + 1 - taps)])
    flat = ops.reshape(padded, (*ops.shape(padded)[:3], block * (width + 1)))
    flat = flat[..., : block * width]
    return ops.reshape(flat, (*ops.shape(flat)[:3], block, width))


def _unskew(bands, taps):
    """The transpose of `_bands`: `(B, H, N, S, L)` to `(B, H, N, S, K)`."""
    block, width = bands.shape[-2:]
    flat = ops.reshape(bands, (*ops.shape(bands)[:3], block * width))
    flat = ops.pad(flat, [(0, 0)] * 3 + [(0, block)])
    skewed = ops.reshape(flat, (*ops.shape(flat)[:3], block, width + 1))
    return skewed[..., :taps]


def _to_blocks(x, block, number):
    """`(B, T, H, R)` to `(B, H, N, S, R)`, zeros added at the end."""
    batch, length, heads, size = ops.shape(x)
    x = _pad_time(x, 0, number * block - length)
    x = ops.reshape(x, (batch, number, block, heads, size))
    return ops.transpose(x, (0, 3, 1, 2, 4))


def _from_blocks(x, length=None):
    """`(B, H, N, S, R)` to `(B, T, H, R)`; the end is cut off."""
    batch, heads, number, block, size = ops.shape(x)
    x = ops.transpose(x, (0, 2, 3, 1, 4))
    x = ops.reshape(x, (batch, number * block, heads, size))
    return x if length is None else x[:, :length]


def _pad_time(x, left, right):
    if isinstance(right, int) and left == right == 0:
        return x
    widths = [(0, 0)] * len(x.shape)
    widths[1] = (left, right)
    return ops.pad(x, widths)


def _split_last(x, heads):
    """`(B, T, D)` to `(B, T, H, R)`."""
    *shape, channels = ops.shape(x)
    return ops.reshape(x, (*shape, heads, channels // heads))


def _merge_last(x):
    """`(B, T, H, R)` to `(B, T, D)`."""
    *shape, heads, size = ops.shape(x)
    return ops.reshape(x, (*shape, heads * size))
