"""What every layer that takes one image shares."""

from typing import Any
from typing import ClassVar

import keras

from keras_attention.layers.base_layer import BaseLayer
from keras_attention.layers.vision.normalization import (
    CenteredBatchNormalization,
)
from keras_attention.ops.precision import to_float
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_data_format
from keras_attention.validation import check_image_shape
from keras_attention.validation import check_image_sizes
from keras_attention.validation import shapes_broadcast

# Sequences, images and volumes.
ANY_RANK = (3, 4, 5)


class BaseImageLayer(BaseLayer):
    """Base of the layers that take one image.

    A subclass implements `call`, and `build_weights` where it has weights.
    The data format, the checks of the input's shape and the mask, which
    passes through unchanged, are here.

    A layer that sets `ranks` to `ANY_RANK` also takes sequences
    `(B, T, C)` and volumes `(B, D, H, W, C)`; which it is, it learns when it
    is built.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or `None` for
            `keras.config.image_data_format()`.
        **kwargs: the arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`.
    """

    ranks: ClassVar[tuple[int, ...]] = (4,)

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)
        self.supports_masking = True

    @property
    def channel_axis(self) -> int:
        """Axis of the channels: -1 or 1."""
        return -1 if self.data_format == "channels_last" else 1

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # One that is built for unknown sizes, too, and symbolic calls.
        for image in keras.tree.flatten(inputs):
            check_image_sizes(self, getattr(image, "shape", ()))
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: Shape) -> None:
        channels = check_image_shape(self, input_shape, self.ranks)
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape), axes={self.channel_axis: channels}
        )
        self.build_weights(tuple(input_shape), channels)

    def build_weights(self, input_shape: tuple, channels: int) -> None:
        """Make the layer's weights. A layer without has none to make."""

    def make_batch_norm(
        self, name: str, shape: tuple, momentum: float = 0.9, **arguments: Any
    ) -> keras.layers.BatchNormalization:
        """Make a batch normalization of epsilon 1e-5, and its weights.

        Args:
            name: name of the sublayer.
            shape: shape of its input.
            momentum: of the moving averages. Defaults to `0.9`, torch's 0.1.
            **arguments: further arguments, which take precedence.
        """
        norm = CenteredBatchNormalization(
            **{
                "momentum": momentum,
                "epsilon": 1e-5,
                "dtype": self.sublayer_policy(name),
                "name": name,
                **arguments,
            }
        )
        norm.build(shape)
        return norm

    def to_float(self, inputs: Tensor) -> Any:
        """Cast integers and booleans to floats; refuse complex numbers."""
        return to_float(inputs, self.compute_dtype)

    def as_called(self, inputs: Any) -> Any:
        """Convert to the tensor that `call` is given for these inputs."""
        x = self.to_float(keras.ops.convert_to_tensor(inputs))
        return keras.ops.cast(x, self.compute_dtype) if self.autocast else x

    def sequence_mask(self, inputs: Tensor, mask: Any) -> Any:
        """Return the mask of a sequence, `(B, T)`, and `None` for an image.

        Raises:
            ValueError: if the mask has another shape than the positions.
        """
        if mask is None or len(inputs.shape) != 3:
            return None
        batch, *sizes = inputs.shape
        del sizes[1 if self.data_format == "channels_last" else 0]
        expected = (batch, *sizes)
        mask = keras.ops.convert_to_tensor(mask)
        shape = tuple(mask.shape)
        if len(shape) != 2 or not shapes_broadcast(shape, expected):
            raise ValueError(
                "`mask` must have the shape (batch, time) of the sequence, "
                f"{expected}, with data_format='{self.data_format}'. "
                f"Received: mask.shape={shape} for layer '{self.name}'"
            )
        return mask

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
