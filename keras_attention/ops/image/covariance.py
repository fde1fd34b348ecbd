"""Second-order statistics of an image, and the square root of a covariance.

`B` batch, `H` height, `W` width, `M` = H·W positions, `C` channels. All
results are at least float32, whatever the image is: products of
half-precision features soon pass 65,504, and differences of them lose all of
their digits. Products are written `@`: Keras' `matmul`, and its `maximum`,
turn float64 into float32 on torch.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_attention.ops.image.sums import mean_over
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

# The trace of a zero matrix, so that a constant image has a root of zero and
# not 0 / 0.
SMALLEST_TRACE = 1e-20
POSITIONS_AT_A_TIME = 1024


def channel_covariance(x: Tensor) -> Any:
    """Compute the covariance between channels: `X (I - 11'/M)/M X'`.

    The image is centered before the product. The difference of the second
    moment and the squared mean, though equal on paper, is lost in rounding
    where the mean is large.

    Args:
        x: image of shape `(B, H, W, C)`.

    Returns:
        Symmetric tensor of shape `(B, C, C)`, at least float32.

    Example:

    >>> from keras_attention.ops import channel_covariance
    >>> x = np.array([[0, 0], [2, -4]], "float32").reshape(1, 1, 2, 2)
    >>> keras.ops.convert_to_numpy(channel_covariance(x))[0]
    array([[ 1., -2.],
           [-2.,  4.]], dtype=float32)
    """
    x = widen(ops.convert_to_tensor(x))
    mean = mean_over_positions(x, (1, 2))  # [B, C]
    centered = x - mean[:, None, None]  # [B, H, W, C]
    rows = _rows_at_a_time(*x.shape[1:3])
    height, width, channels = ops.shape(x)[1:]
    if rows:
        parts = ops.reshape(
            centered, (-1, height // rows, rows * width, channels)
        )
        products = ops.einsum("bgni,bgnj->bgij", parts, parts)
        product = mean_over(products, 1)  # [B, C, C]
        return product / (rows * width)
    product = ops.einsum("bhwi,bhwj->bij", centered, centered)  # [B, C, C]
    return product / ops.cast(height * width, product.dtype)


def _rows_at_a_time(height, width):
    """Rows whose products are added by themselves, and `None` for all.

    Sums over more positions lose digits.
    """
    if None in (height, width) or height * width <= POSITIONS_AT_A_TIME:
        return None
    most = max(1, POSITIONS_AT_A_TIME // width)
    return max(n for n in range(1, most + 1) if height % n == 0)


def position_covariance(x: Tensor) -> Any:
    """Compute the covariance between positions over channels.

    Args:
        x: image of shape `(B, H, W, C)` with a known height, width and number
            of channels.

    Returns:
        Symmetric tensor of shape `(B, M, M)`, at least float32; the positions
        are counted row by row.

    Example:

    >>> from keras_attention.ops import position_covariance
    >>> x = np.array([[0, 2], [0, -4]], "float32").reshape(1, 1, 2, 2)
    >>> keras.ops.convert_to_numpy(position_covariance(x))[0]
    array([[ 1., -2.],
           [-2.,  4.]], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    height, width, channels = x.shape[1:]
    x = ops.reshape(widen(x), (-1, height * width, channels))  # [B, M, C]
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    return ops.einsum("bic,bjc->bij", centered, centered) / channels


def newton_schulz_square_root(matrix: Any, iterations: int = 5) -> Any:
    """Compute the square root of a covariance by Newton-Schulz iterations.

    With A = matrix / trace(matrix), Y = A and Z = I:

        P = (3 I - Z Y) / 2,    Y <- Y P,    Z <- P Z

    Y goes to the root of A, quadratically for the eigenvalues near 1 and by
    a factor of 3/2 a step for those near 0. The trace brings the eigenvalues
    into [0, 1], where the iteration converges, and is made up for at the end:
    the root is Y · sqrt(trace). Only products are used, so it is as fast and
    as differentiable on an accelerator as a matrix product.

    Args:
        matrix: symmetric positive semi-definite, of shape `(B, C, C)`.
        iterations: positive number of steps.

    Returns:
        Tensor of shape `(B, C, C)`, at least float32.

    Example:

    >>> from keras_attention.ops import newton_schulz_square_root
    >>> matrix = np.diag([4.0, 9.0]).astype("float32")[None]
    >>> root = newton_schulz_square_root(matrix, iterations=12)
    >>> keras.ops.convert_to_numpy(root)[0].round(3)
    array([[2., 0.],
           [0., 3.]], dtype=float32)
    """
    matrix = widen(ops.convert_to_tensor(matrix))
    size = matrix.shape[-1]
    # `ops.trace` and `ops.eye` become an operation that ONNX Runtime lacks.
    diagonal = ops.reshape(matrix, (-1, size * size))[:, :: size + 1]
    trace = ops.sum(diagonal, axis=-1)[:, None, None]  # [B, 1, 1]
    smallest = ops.full_like(trace, SMALLEST_TRACE)
    trace = ops.where(trace > smallest, trace, smallest)
    identity = ops.cast(np.eye(size), matrix.dtype)
    y, z = matrix / trace, None
    for step in range(iterations):
        # In the first step Z is the identity; after the last one it has no
        # use.
        product = y if z is None else z @ y
        p = 1.5 * identity - 0.5 * product
        y = y @ p
        if step < iterations - 1:
            z = p if z is None else p @ z
    return y * ops.sqrt(trace)


def upper_triangle(matrix: Any) -> Any:
    """Entries on and above the diagonal, row by row.

    Args:
        matrix: tensor of shape `(B, C, C)` with a known `C`.

    Returns:
        Tensor of shape `(B, C (C + 1) / 2)`.
    """
    size = matrix.shape[-1]
    rows, columns = np.triu_indices(size)
    flat = ops.reshape(matrix, (-1, size * size))
    return ops.take(flat, (rows * size + columns).astype("int32"), axis=1)
