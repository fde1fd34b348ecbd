import math
from typing import Any

import keras
from keras import ops

from keras_attention.types import Tensor


def dense_positions(dense: keras.layers.Dense, x: Tensor) -> Any:
    """Apply a dense layer to all positions of an image or a volume, in a row.

    With Keras before 3.15 the layer itself is wrong on TensorFlow's CPU for a
    batch of images of height 1, and writes beyond the end of its output
    (TensorFlow issue 117700).

    Args:
        dense: the layer.
        x: tensor `(batch, *sizes, channels)`.
    """
    batch, *sizes, channels = ops.shape(x)
    y = dense(ops.reshape(x, (batch, math.prod(sizes), channels)))
    return ops.reshape(y, (batch, *sizes, dense.units))
