"""A depthwise convolution with strides that XLA compiles well."""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.image.strided_convolution import strided_depthwise
from keras_attention.types import Tensor


class StridedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with strides of 2 and no padding.

    TensorFlow's op takes twenty times as long under XLA as without, on the
    CPU; see `strided_depthwise`. It has no bias and one filter a channel. A
    part of other layers.
    """

    def call(self, inputs: Tensor) -> Any:
        if keras.backend.backend() != "tensorflow" or not inside_xla():
            return super().call(inputs)
        kernel = ops.cast(self.kernel, inputs.dtype)
        return strided_depthwise(inputs, kernel[..., 0])
