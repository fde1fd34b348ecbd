"""A depthwise convolution whose kernel is as large as the image."""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.image.grid_pooling import weighted_sum
from keras_attention.types import Tensor


class WholeDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a kernel of the image's size.

    The convolution ops take a thousand times as long for the gradient; see
    `weighted_sum`. It has no bias and one filter a channel. A part of other
    layers.
    """

    def call(self, inputs: Tensor) -> Any:
        kernel = ops.cast(self.kernel, inputs.dtype)
        return weighted_sum(inputs, kernel[..., 0])
