"""Convolution by kernels that are computed for each position.

`B` batch, `H` height, `W` width, `P · Q` channels, in an order that the caller
chooses.
"""

import math
from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def local_convolution(x: Tensor, kernels: Tensor) -> Any:
    """Sum each neighborhood by the kernel of its center, zeros around.

    Args:
        x: image of shape `(B, H, W, P, Q)`.
        kernels: of shape `(B, H, W, P, Q, K · K)` with K odd, taps row by
            row; sizes P and Q may be 1, for kernels that channels share.

    Returns:
        Tensor of the shape and dtype of `x`, summed in at least float32.
    """
    dtype, size = x.dtype, math.isqrt(kernels.shape[-1])
    reach = (size - 1) // 2
    _, height, width, *_ = ops.shape(x)
    around = ((0, 0), (reach, reach), (reach, reach), (0, 0), (0, 0))
    # The products too: those of float16 end at 65,504.
    x, kernels, y = widen(ops.pad(x, around)), widen(kernels), 0
    for row in range(size):
        for column in range(size):
            moved = x[:, row : height + row, column : width + column]
            y = y + moved * kernels[..., row * size + column]
    return ops.cast(y, dtype)
