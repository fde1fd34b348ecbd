"""What every gate of the vision room shares."""

from typing import Any

import keras

from keras_attention.ops.gating import apply_gate
from keras_attention.validation import check_data_format
from keras_attention.validation import check_image_shape


class BaseGate(keras.layers.Layer):
    """Base of the layers that scale an image by a gate they compute from it.

    A subclass implements `compute_gate`, and `build_gate` where it has
    weights. The rest of a layer's contract is here: the data format, the
    checks of the input's shape, the output's shape and the mask, which passes
    through unchanged.

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

    def build(self, input_shape):
        channels = check_image_shape(self, input_shape)
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})
        self.build_gate(tuple(input_shape), channels)

    def build_gate(self, input_shape: tuple, channels: int) -> None:
        """Make the gate's weights. A gate without weights has none to make."""

    def compute_gate(self, inputs, training=None):
        """Return the gate: values in [0, 1] that broadcast to `inputs`."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `compute_gate`."
        )

    def call(self, inputs, training=None):
        return apply_gate(inputs, self.compute_gate(inputs, training=training))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
