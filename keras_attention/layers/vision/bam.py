from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import expand_spatial_gate
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer


@register_attention("bam")
class BAM(WeightedLayer, BaseGate):
    """Bottleneck Attention Module: channel and spatial logits in one gate.

    Two branches see the input. With d = C // ratio, and every convolution
    and dense layer with a bias:

        channel: mean over positions, dense to d, BN, ReLU, dense to C
        spatial: 1x1 to d, BN, ReLU, twice (3x3 dilated, BN, ReLU), 1x1 to 1
        y = x * (1 + sigmoid(channel * spatial))          # combine="multiply"
        y = x * (1 + sigmoid(channel + spatial))          # combine="add"

    The paper adds the two; the authors' code, which is the default here,
    multiplies them. The gate is 1 + sigmoid(...), so that the input is never
    scaled down: its values are in [1, 2], not in [0, 1]. The layer is
    placed between the stages of a network, where the resolution changes.

    Args:
        ratio: positive integer; the width of both branches is
            `channels // ratio`, at least one.
        dilation: positive integer; of the two 3x3 convolutions.
        combine: `"multiply"` or `"add"`.
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
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Park et al., BAM: Bottleneck Attention Module, BMVC 2018,
        arXiv:1807.06514, equations 1 to 5.

    Example:

    >>> layer = keras_attention.BAM(ratio=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()  # 172 of the channels, 409 of the positions
    581
    """

    def __init__(
        self,
        ratio: int = 16,
        dilation: int = 4,
        combine: str = "multiply",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.dilation = check_positive_integer("dilation", dilation)
        self.combine = check_choice("combine", combine, ("multiply", "add"))

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        units = bottleneck_width(channels, self.ratio)
        self.channel_reduce = self._dense(units, "channel_reduce")
        self.channel_norm = self.make_batch_norm("channel_norm", (None, units))
        self.channel_expand = self._dense(channels, "channel_expand")
        self.channel_reduce.build((None, channels))
        self.channel_expand.build((None, units))

        self.spatial_convolutions = [self._conv(units, 1, "spatial_reduce")]
        image = (None, None, None, units)
        self.spatial_norms = [
            self.make_batch_norm("spatial_reduce_norm", image)
        ]
        for number in (1, 2):
            name = f"spatial_dilated{number}"
            self.spatial_convolutions.append(self._conv(units, 3, name))
            self.spatial_norms.append(
                self.make_batch_norm(f"{name}_norm", image)
            )
        self.spatial_expand = self._conv(1, 1, "spatial_expand")
        for number, convolution in enumerate(self.spatial_convolutions):
            width = channels if number == 0 else units
            convolution.build((None, None, None, width))
        self.spatial_expand.build(image)

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        channel = self._channel_logits(inputs, training)  # [B, 1, 1, C]
        spatial = self._spatial_logits(inputs, training)  # [B, H, W, 1]
        multiply = self.combine == "multiply"
        logits = channel * spatial if multiply else channel + spatial
        return 1 + ops.sigmoid(logits)  # [B, H, W, C]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "dilation": self.dilation,
            "combine": self.combine,
        }

    def _channel_logits(self, inputs, training):
        x = self.channel_reduce(global_average_pool(inputs, self.data_format))
        x = ops.relu(self.channel_norm(x, training=training))
        x = self.channel_expand(x)  # [B, C]
        return expand_channel_gate(x, self.data_format)

    def _spatial_logits(self, inputs, training):
        x = to_channels_last(inputs, self.data_format)
        for convolution, norm in zip(
            self.spatial_convolutions, self.spatial_norms, strict=True
        ):
            x = ops.relu(norm(convolution(x), training=training))
        x = self.spatial_expand(x)[..., 0]  # [B, H, W]
        return expand_spatial_gate(x, self.data_format)

    def _dense(self, units, name):
        return keras.layers.Dense(units, **self.sublayer_arguments(name=name))

    def _conv(self, filters, kernel_size, name):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            **self.sublayer_arguments(
                padding="same",
                dilation_rate=1 if kernel_size == 1 else self.dilation,
                data_format="channels_last",
                name=name,
            ),
        )
