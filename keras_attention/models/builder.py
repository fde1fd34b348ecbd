"""What the networks are written with: named layers of one data format."""

from typing import Any

import keras
from keras import layers

from keras_attention.layers.vision.covariance_pooling import CovariancePooling
from keras_attention.models.placement import Placement
from keras_attention.types import DTypeLike
from keras_attention.types import RegularizerLike
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_data_format
from keras_attention.validation import check_positive_integer


class Builder:
    """Makes the layers of one network and calls them.

    Convolutions have no bias, since a batch normalization follows, and pad
    alike on all sides: `same` padding at stride 2 would pad unevenly, unlike
    the code that the papers' numbers come from.

    Args:
        placement: the network's attention.
        data_format: Layout of the images.
        dtype: dtype or dtype policy of all layers.
        kernel_regularizer: Regularizer of the convolutions and of the
            classifier.
    """

    def __init__(
        self,
        placement: Placement,
        data_format: str | None = None,
        dtype: DTypeLike = None,
        kernel_regularizer: RegularizerLike = None,
    ):
        self.placement = placement
        self.data_format = check_data_format(data_format)
        self.dtype = keras.dtype_policies.get(
            keras.config.dtype_policy() if dtype is None else dtype
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.channel_axis = -1 if self.data_format == "channels_last" else 1

    def input(self, input_shape: tuple) -> keras.KerasTensor:
        """Return the network's input; see `input_shape` of the networks."""
        return keras.Input(
            check_input_shape(input_shape, self.data_format), name="image"
        )

    def channels(self, x: Tensor) -> int:
        return x.shape[self.channel_axis]

    def conv(
        self,
        x: Tensor,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        name: str | None = None,
    ) -> Tensor:
        x, padding = self._pad(x, kernel_size, strides, name)
        return layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding,
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=self.kernel_regularizer,
            **self._image(name),
        )(x)

    def depthwise(
        self,
        x: Tensor,
        kernel_size: int,
        strides: int = 1,
        name: str | None = None,
    ) -> Tensor:
        x, padding = self._pad(x, kernel_size, strides, name)
        return layers.DepthwiseConv2D(
            kernel_size,
            strides,
            padding,
            use_bias=False,
            depthwise_initializer="he_normal",
            depthwise_regularizer=self.kernel_regularizer,
            **self._image(name),
        )(x)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layers.BatchNormalization(
            axis=self.channel_axis,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            name=name,
        )(x)

    def relu(
        self, x: Tensor, name: str, max_value: float | None = None
    ) -> Tensor:
        return layers.ReLU(max_value, dtype=self.dtype, name=name)(x)

    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        return layers.Add(dtype=self.dtype, name=name)([x, y])

    def max_pool(
        self, x: Tensor, pool_size: int, strides: int, name: str
    ) -> Tensor:
        # Zeros do as padding, since a ReLU comes before.
        x, padding = self._pad(x, pool_size, strides, name)
        return layers.MaxPooling2D(
            pool_size, strides, padding, **self._image(name)
        )(x)

    def attend(
        self, x: Tensor, stage: int, places: tuple[str, ...], name: str
    ) -> Tensor:
        """Put the stage's attention on `x` if it belongs in such a place."""
        layer = self.placement.make(
            stage,
            places,
            f"{name}_attention",
            data_format=self.data_format,
            dtype=self.dtype,
        )
        return x if layer is None else layer(x)

    def end_block(self, x: Tensor, stage: int, last: bool, name: str) -> Tensor:
        """Attention on what a residual block adds, if it belongs there."""
        places = ("block", "last_block") if last else ("block",)
        return self.attend(x, stage, places, name)

    def end_stage(self, x: Tensor, stage: int) -> Tensor:
        """Name the end of a stage: `"stage1"` and so on, attention included."""
        x = self.attend(x, stage, ("stage",), f"stage{stage}")
        # By name: the layer has no `get_config` that could take a policy.
        return layers.Identity(dtype=self.dtype.name, name=f"stage{stage}")(x)

    def classify(
        self, x: Tensor, classes: int, softmax: bool, pooling: str = "average"
    ) -> Tensor:
        """Pool globally, then classify: logits, or probabilities of them."""
        if pooling == "covariance":
            pool = CovariancePooling(
                iterations=3,
                kernel_regularizer=self.kernel_regularizer,
                **self._image("pool"),
            )
        else:
            pool = layers.GlobalAveragePooling2D(**self._image("pool"))
        return self.predict(pool(x), classes, softmax)

    def predict(self, x: Tensor, classes: int, softmax: bool) -> Any:
        """The classifier on features: its outputs are at least float32."""
        x = layers.Dense(
            check_positive_integer("classes", classes),
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype,
            name="logits",
        )(x)
        wide = self.dtype.compute_dtype not in ("float16", "bfloat16")
        return layers.Activation(
            "softmax" if check_boolean("softmax", softmax) else "linear",
            dtype=self.dtype if wide else "float32",
            name="predictions",
        )(x)

    def _image(self, name):
        return {
            "data_format": self.data_format,
            "dtype": self.dtype,
            "name": name,
        }

    def _pad(self, x, kernel_size, strides, name):
        """Pad for a window that moves by more than 1: tensor and padding."""
        if strides == 1 or kernel_size == 1:
            return x, "same"
        x = layers.ZeroPadding2D(
            kernel_size // 2, **self._image(f"{name}_pad")
        )(x)
        return x, "valid"


def check_input_shape(input_shape: tuple, data_format: str) -> tuple:
    """Return the shape of one image in `data_format`.

    Args:
        input_shape: `(height, width, channels)`, for both data formats.
            Height and width may be `None`.
        data_format: `"channels_last"` or `"channels_first"`.

    Raises:
        ValueError: If it is not a shape of this kind.
    """
    expected = (
        "`input_shape` must be (height, width, channels), in this order for "
        "both data formats; height and width may be None. "
        f"Received: input_shape={input_shape!r}"
    )
    if not isinstance(input_shape, list | tuple) or len(input_shape) != 3:
        raise ValueError(expected)
    height, width, channels = input_shape
    if channels is None:
        raise ValueError(expected)
    for name, value in zip(("height", "width"), (height, width), strict=True):
        if value is not None:
            check_positive_integer(name, value)
    check_positive_integer("channels", channels)
    if data_format == "channels_last":
        return height, width, channels
    if height is not None and height <= 4 and channels > 4:
        raise ValueError(
            f"{expected}, which looks like (channels, height, width). The "
            "model's own input is turned to channels_first by itself."
        )
    return channels, height, width
