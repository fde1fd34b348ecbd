from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.layers.vision.channel_attention import ChannelAttention
from keras_attention.layers.vision.spatial_attention import SpatialAttention
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.pooling import GLOBAL_POOLS
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choices
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_positive_integer


@register_attention("cbam")
class CBAM(WeightedLayer, BaseAnyRankGate):
    """Convolutional Block Attention Module: a channel and a spatial gate.

    `ChannelAttention` scales the channels of the input, and
    `SpatialAttention` the positions of the result:

        x' = x * c,   c the channel gate of x             # [B, 1, 1, C]
        y = x' * s,   s the spatial gate of x'            # [B, H, W, 1]

    The layer's gate is the product c * s; the two factors are the gates of
    its sublayers `channel_attention` and `spatial_attention`. In a residual
    block it is placed after the last batch normalization and before the
    addition.

    Args:
        ratio: positive integer; the hidden width of the channels' gate is
            `channels // ratio`, at least one.
        pool_types: poolings of the channels' gate, one or more of `"avg"`,
            `"max"`, `"lp"`, `"lse"`; see `ChannelAttention`.
        kernel_size: odd positive integer; size of the spatial gate's kernel.
        use_spatial: whether there is a spatial gate. Without it
            `kernel_size` and `gamma_initializer` are not used.
        gamma_initializer: initializer of the spatial batch normalization's
            gamma: `"zeros"` as the authors'; see `SpatialAttention`.
        kernel_initializer: initializer of the kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image, sequence or volume.
        training: whether the batch normalization uses the batch.
        mask: boolean tensor `(batch, time)` of a sequence: where it is
            `False`, the input has no effect on other positions, and the
            output is zero. Masks of images and volumes are passed on unused.

    Input shape:
        An image `(batch, height, width, channels)`, a sequence
        `(batch, time, channels)` or a volume
        `(batch, depth, height, width, channels)`; with the channels second
        for `channels_first`. All but the channels may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018,
        arXiv:1807.06521, equations 1 to 3.

    Example:

    >>> layer = keras_attention.CBAM(ratio=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> tuple(layer.channel_attention.compute_gate(x).shape)
    (2, 1, 1, 16)
    """

    def __init__(
        self,
        ratio: int = 16,
        pool_types: Sequence[str] = ("avg", "max"),
        kernel_size: int = 7,
        use_spatial: bool = True,
        gamma_initializer: InitializerLike = "zeros",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.pool_types = check_choices("pool_types", pool_types, GLOBAL_POOLS)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.use_spatial = check_boolean("use_spatial", use_spatial)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.channel_attention = ChannelAttention(
            self.ratio,
            self.pool_types,
            **self.sublayer_arguments(
                data_format=self.data_format, name="channel_attention"
            ),
        )
        self.channel_attention.build(input_shape)
        if not self.use_spatial:
            return
        self.spatial_attention = SpatialAttention(
            self.kernel_size,
            clone_initializer(self.gamma_initializer),
            clone_initializer(self.kernel_initializer),
            kernel_regularizer=self.kernel_regularizer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name="spatial_attention",
        )
        self.spatial_attention.build(input_shape)

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        inputs = ops.convert_to_tensor(inputs)
        gate = self.channel_attention.compute_gate(
            inputs, mask=mask
        )  # [B, 1, 1, C]
        if not self.use_spatial:
            return gate
        return gate * self.spatial_attention.compute_gate(
            apply_gate(inputs, gate), training=training, mask=mask
        )  # [B, H, W, C]

    def scale(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        # One gate after the other, without a product of the image's size.
        x = self.channel_attention(inputs, mask=mask)
        if self.use_spatial:
            x = self.spatial_attention(x, training=training, mask=mask)
        return x

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "pool_types": self.pool_types,
            "kernel_size": self.kernel_size,
            "use_spatial": self.use_spatial,
            "gamma_initializer": keras.initializers.serialize(
                self.gamma_initializer
            ),
        }
