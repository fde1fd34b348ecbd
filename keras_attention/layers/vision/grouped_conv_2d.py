"""A grouped convolution that is the same on every backend."""

from typing import Any

import keras

from keras_attention.ops.image.grouped_convolution import grouped_convolution
from keras_attention.types import Shape
from keras_attention.types import Tensor


class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with groups that trains on TensorFlow's CPU too.

    Strides and dilation go together here, and padding is the same on both
    sides; see `grouped_convolution`. A part of other layers.

    Args:
        filters: number of output channels.
        kernel_size: odd number of rows and of columns, or one for each.
        groups: number of groups of channels.
        spacing: the strides; Keras' own argument refuses a dilation.
        dilation: distance of the kernel's taps.
        use_bias: whether there are biases. Defaults to `False`.
        **kwargs: passed on to `keras.layers.Conv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        groups: int = 1,
        spacing: int = 1,
        dilation: int = 1,
        use_bias: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            groups=groups,
            padding="same",
            use_bias=use_bias,
            data_format="channels_last",
            **kwargs,
        )
        self.spacing = spacing
        self.dilation = dilation

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return grouped_convolution(
            inputs, kernel, self.groups, self.spacing, self.dilation
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, *sizes, _ = input_shape
        sizes = [None if n is None else -(-n // self.spacing) for n in sizes]
        return (batch, *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for fixed in ("padding", "data_format"):
            del config[fixed]
        return {**config, "spacing": self.spacing, "dilation": self.dilation}
