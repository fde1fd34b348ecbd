"""A convolution of a few maps to one."""

from typing import Any

import keras

from keras_attention.ops.image.narrow_convolution import narrow_convolution
from keras_attention.types import Tensor


class NarrowConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that is fast where channels and filters are few.

    It has strides of 1, zeros around, and no bias; see `narrow_convolution`.
    A part of other layers.

    Args:
        filters: number of output channels.
        kernel_size: odd number of rows and of columns.
        **kwargs: passed on to `keras.layers.Conv2D`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        super().__init__(
            filters,
            kernel_size,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            **kwargs,
        )

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return narrow_convolution(inputs, kernel)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for fixed in ("padding", "use_bias", "data_format"):
            del config[fixed]
        return config
