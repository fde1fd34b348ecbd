"""Coefficients of the two-dimensional discrete cosine transform.

`B` batch, `H` height, `W` width, `C` channels, `n` frequencies.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def cosine_coefficients(x: Tensor, basis: np.ndarray) -> Any:
    """Average an image times cosines, each group of channels with its own.

    Args:
        x: image of shape `(B, H, W, C)`, H and W known.
        basis: array of shape `(H, W, n)`; n divides C, and the first C / n
            channels have the first of the cosines.

    Returns:
        Tensor of shape `(B, C)`, at least float32.
    """
    x = widen(x)
    height, width, number = basis.shape
    channels = x.shape[-1]
    groups = (-1, height, width, number, channels // number)
    cosines = ops.cast(ops.convert_to_tensor(basis[..., None]), x.dtype)
    products = ops.reshape(x, groups) * cosines
    products = ops.reshape(products, (-1, height, width, channels))
    return mean_over_positions(products, (1, 2))
