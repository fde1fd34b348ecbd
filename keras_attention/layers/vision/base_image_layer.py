"""What every layer that takes one image shares."""

from typing import Any

import keras

from keras_attention.layers.base_layer import BaseLayer
from keras_attention.types import Shape
from keras_attention.validation import check_data_format
from keras_attention.validation import check_image_shape


class BaseImageLayer(BaseLayer):
    """Base of the layers that take one image.

    A subclass implements `call`, and `build_weights` where it has weights.
    The data format, the checks of the input's shape and the mask, which
    passes through unchanged, are here.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or `None` for
            `keras.config.image_data_format()`.
        **kwargs: the arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)
        self.supports_masking = True

    @property
    def channel_axis(self) -> int:
        """Axis of the channels: -1 or 1."""
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: Shape) -> None:
        channels = check_image_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes={self.channel_axis: channels}
        )
        self.build_weights(tuple(input_shape), channels)

    def build_weights(self, input_shape: tuple, channels: int) -> None:
        """Make the layer's weights. A layer without has none to make."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
