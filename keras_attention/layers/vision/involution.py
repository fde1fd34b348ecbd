from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.local_convolution import local_convolution
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_positive_integer


@register_attention("involution", "rednet")
class Involution(WeightedLayer, BaseImageLayer):
    """Involution: a convolution by a kernel that each position computes.

    Where a convolution has one kernel for all positions and many for the
    channels, this has one for each position, which the channels of a group
    share:

        h = W2 relu(BN(W1 x)) + b                         # [B, H, W, G, K²]
        y = sum over the neighborhood of h x             # [B, H, W, C]

    with G = C / group_channels, zeros around the image, and d = C // ratio
    units in between. The layer has C·d + 2·d + (d + 1)·K²·G weights. It
    replaces a 3x3 convolution in a bottleneck; what follows is a normalization
    and ReLU.

    Args:
        kernel_size: Odd integer K. Defaults to `7`.
        group_channels: Integer, number of channels that share their kernels,
            a divisor of the channels. Defaults to `16`.
        ratio: Integer. Defaults to `4`.
        kernel_initializer: Initializer of W1 and W2. Defaults to
            `"he_normal"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        training: Boolean, whether the batch normalization uses the batch.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `group_channels` does not divide the channels.

    Reference:
        Li et al., Involution: Inverting the Inherence of Convolution for
        Visual Recognition, CVPR 2021, arXiv:2103.06255, equations 4 to 6.

    Example:

    >>> layer = keras_attention.Involution(kernel_size=3)
    >>> x = np.ones((2, 7, 5, 32), "float32")
    >>> tuple(layer(x).shape)
    (2, 7, 5, 32)
    """

    def __init__(
        self,
        kernel_size: int = 7,
        group_channels: int = 16,
        ratio: int = 4,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.group_channels = check_positive_integer(
            "group_channels", group_channels
        )
        self.ratio = check_positive_integer("ratio", ratio)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if channels % self.group_channels:
            raise ValueError(
                "Involution's `group_channels` must divide the channels. "
                f"Received: group_channels={self.group_channels} for "
                f"{channels} channels in layer '{self.name}'."
            )
        units = bottleneck_width(channels, self.ratio)
        groups = channels // self.group_channels
        self.reduce = keras.layers.Dense(
            units, use_bias=False, **self.sublayer_arguments(name="reduce")
        )
        self.reduce.build((None, None, None, channels))
        self.norm = self.make_batch_norm("norm", (None, None, None, units))
        self.span = keras.layers.Dense(
            groups * self.kernel_size**2, **self.sublayer_arguments(name="span")
        )
        self.span.build((None, None, None, units))

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        x = to_channels_last(self.to_float(inputs), self.data_format)
        hidden = ops.relu(
            self.norm(dense_positions(self.reduce, x), training=training)
        )
        batch, height, width, channels = ops.shape(x)
        image = (batch, height, width, channels // self.group_channels)
        kernels = ops.reshape(
            dense_positions(self.span, hidden), (*image, 1, self.kernel_size**2)
        )
        y = local_convolution(
            ops.reshape(x, (*image, self.group_channels)), kernels
        )
        y = ops.reshape(y, (batch, height, width, channels))
        return from_channels_last(y, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "group_channels": self.group_channels,
            "ratio": self.ratio,
        }
