import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.channel_gsop import ChannelGSoP
from keras_attention.layers.vision.grouped_conv_2d import GroupedConv2D
from keras_attention.layers.vision.position_gsop import PositionGSoP
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

FUSIONS = ("average", "add", "max", "concat")


@register_attention("gsop")
class GSoP(WeightedLayer, BaseGate):
    """Global second-order pooling over channels and positions, fused.

    `ChannelGSoP` and `PositionGSoP` see the same input side by side:

        u = x * c,          c the channels' gate of x     # [B, 1, 1, C]
        v = relu(x * s),    s the positions' gate of x    # [B, H, W, 1]

        y = (u + v) / 2                                   # "average"
        y = u + v                                         # "add"
        y = max(u, v)                                     # "max"
        y = BN(conv(u) + conv(v))                         # "concat"

    The paper fuses by average, maximum or concatenation; what the authors'
    code has for the average is the sum, `"add"`. Its concatenation is
    weighted, and keeps the number of channels: two convolutions along the
    height, in groups of 64 channels, of a size that falls as the channels
    grow: 11, 9, 7 and 5 for 256, 512, 1024 and 2048.

    The layer's gate is what `y` is of `x`. It is in [0, 1], and in [0, 2] for
    `"add"`; where `x` is negative the position's part is 0, for the ReLU.
    The two factors are the gates of its sublayers `channel_gsop` and
    `position_gsop`. With `"concat"` these are the only gates there are.

    Args:
        reduced_channels: positive integer; see `ChannelGSoP`.
        expansion: positive integer; number of filters of each row.
        strides: positive integer; strides of the channels' 1x1 convolution.
        grid_size: positive integer; see `PositionGSoP`.
        fusion: `"average"`, `"add"`, `"max"` or `"concat"`.
        activation: activation of the channels' row convolution.
        kernel_initializer: initializer of the kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image tensor.
        training: whether the batch normalizations use the batch.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range;
            when the gate of a layer with `fusion="concat"` is asked for.

    Reference:
        Gao et al., Global Second-order Pooling Convolutional Networks, CVPR
        2019, arXiv:1811.12006, section 3.2.

    Example:

    >>> layer = keras_attention.GSoP(reduced_channels=8, grid_size=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> tuple(layer.position_gsop.compute_gate(x).shape)
    (2, 7, 5, 1)
    """

    def __init__(
        self,
        reduced_channels: int = 128,
        expansion: int = 4,
        strides: int = 1,
        grid_size: int = 8,
        fusion: str = "average",
        activation: str | Callable | None = None,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.reduced_channels = check_positive_integer(
            "reduced_channels", reduced_channels
        )
        self.expansion = check_positive_integer("expansion", expansion)
        self.strides = check_positive_integer("strides", strides)
        self.grid_size = check_positive_integer("grid_size", grid_size)
        self.fusion = check_choice("fusion", fusion, FUSIONS)
        self.activation = keras.activations.get(activation)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.channel_gsop = ChannelGSoP(
            self.reduced_channels,
            self.expansion,
            self.strides,
            self.activation,
            **self.sublayer_arguments(
                data_format=self.data_format, name="channel_gsop"
            ),
        )
        self.channel_gsop.build(input_shape)
        self.position_gsop = PositionGSoP(
            self.reduced_channels,
            self.expansion,
            self.grid_size,
            **self.sublayer_arguments(
                data_format=self.data_format, name="position_gsop"
            ),
        )
        self.position_gsop.build(input_shape)
        if self.fusion != "concat":
            return
        last = (None, None, None, channels)
        self.channel_fusion = self._convolution(channels, "channel_fusion")
        self.channel_fusion.build(last)
        self.position_fusion = self._convolution(channels, "position_fusion")
        self.position_fusion.build(last)
        self.norm = self.make_batch_norm("norm", last)

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        if self.fusion == "concat":
            raise ValueError(
                "A GSoP layer with fusion='concat' mixes its two scaled images "
                "by convolutions, and has no gate of its own. Use its "
                "sublayers `channel_gsop` and `position_gsop`, or read "
                f"'{self.name}/channel_gsop:gate'. "
                f"Received: fusion='concat' in layer '{self.name}'"
            )
        channel = self.channel_gsop.compute_gate(inputs, training=training)
        position = self.position_gsop.compute_gate(inputs, training=training)
        positive = ops.cast(inputs > 0, position.dtype)  # [B, H, W, C]
        if self.fusion == "max":
            return positive * _maximum(channel, position)
        gate = channel + positive * position
        return gate / 2 if self.fusion == "average" else gate

    def scale(self, inputs: Tensor, training: bool | None) -> Tensor:
        channel = self.channel_gsop(inputs, training=training)
        position = self.position_gsop(inputs, training=training)
        if self.fusion == "max":
            return _maximum(channel, position)
        if self.fusion == "concat":
            return self._concatenate(channel, position, training)
        total = channel + position
        return total / 2 if self.fusion == "average" else total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduced_channels": self.reduced_channels,
            "expansion": self.expansion,
            "strides": self.strides,
            "grid_size": self.grid_size,
            "fusion": self.fusion,
            "activation": keras.activations.serialize(self.activation),
        }

    def _concatenate(self, channel, position, training):
        x = self.channel_fusion(to_channels_last(channel, self.data_format))
        x = x + self.position_fusion(
            to_channels_last(position, self.data_format)
        )
        x = self.norm(x, training=training)  # [B, H, W, C]
        first = self.data_format == "channels_first"
        return ops.moveaxis(x, -1, 1) if first else x

    def _convolution(self, channels, name):
        """Size and groups as in the authors' code, for all channels."""
        groups = math.gcd(channels, max(channels // 64, 1))
        size = max(2 * int(math.log2(32 / groups)) + 5, 1)
        return GroupedConv2D(
            channels,
            (size, 1),
            groups,
            use_bias=True,
            **self.sublayer_arguments(name=name),
        )


def _maximum(x, y):
    """Not `ops.maximum`, which turns float64 into float32 on torch."""
    return ops.where(x > y, x, y)
