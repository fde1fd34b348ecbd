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

from keras_attention.ops.precision import widen

# The trace of a zero matrix, so that a constant image has a root of zero and
# not 0 / 0.
SMALLEST_TRACE = 1e-20


def channel_covariance(x: Any) -> Any:
    """Covariance between channels over positions: `X (I - 11'/M)/M X'`.

    The image is centred before the product. The difference of the second
    moment and the squared mean, though equal on paper, is lost in rounding
    where the mean is large.

    Args:
        x: image of shape `(B, H, W, C)`.

    Returns:
        Symmetric tensor of shape `(B, C, C)`, at least float32.
    """
    x = widen(x)
    centred = x - ops.mean(x, axis=(1, 2), keepdims=True)  # [B, H, W, C]
    height, width = ops.shape(x)[1:3]
    product = ops.einsum("bhwi,bhwj->bij", centred, centred)  # [B, C, C]
    return product / ops.cast(height * width, product.dtype)


def position_covariance(x: Any) -> Any:
    """Covariance between positions over channels.

    Args:
        x: image of shape `(B, H, W, C)` with a known height, width and number
            of channels.

    Returns:
        Symmetric tensor of shape `(B, M, M)`, at least float32; the positions
        are counted row by row.
    """
    height, width, channels = x.shape[1:]
    x = ops.reshape(widen(x), (-1, height * width, channels))  # [B, M, C]
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    return ops.einsum("bic,bjc->bij", centred, centred) / channels


def newton_schulz_square_root(matrix: Any, iterations: int = 5) -> Any:
    """Square root of a covariance by coupled Newton-Schulz iterations.

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
    """
    matrix = widen(matrix)
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
