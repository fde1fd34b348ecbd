from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.pooling import GLOBAL_POOLS
from keras_attention.ops.image.pooling import global_pools
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choices
from keras_attention.validation import check_positive_integer


@register_attention("channel_attention")
class ChannelAttention(WeightedLayer, BaseAnyRankGate):
    """The channel gate of CBAM: several poolings through one shared MLP.

    Each pooling describes every channel by one number. The descriptions go
    through the same bottleneck of two dense layers with biases, their logits
    are added, and the sigmoid of the sum is the gate:

        F(z) = W2 relu(W1 z + b1) + b2                    # [B, C]
        s = sigmoid(F(mean of x) + F(maximum of x))       # [B, C]
        y = x * s                                         # [B, H, W, C]

    W1 is `(C, C // ratio)`, so the layer has as many weights as
    `SqueezeExcite`, and computes its MLP once for each pooling.

    Args:
        ratio: positive integer; the hidden width is `channels // ratio`, at
            least one.
        pool_types: one or more of `"avg"`, the mean over positions;
            `"max"`, the maximum; `"lp"`, the Euclidean norm; `"lse"`, the
            logarithm of the sum of exponentials. The latter two are not in
            the paper, but in the authors' code.
        kernel_initializer: initializer of the two kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image, sequence or volume.
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
        arXiv:1807.06521, equation 2.

    Example:

    >>> layer = keras_attention.ChannelAttention(ratio=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 1, 1, 16))
    >>> layer.count_params()  # 2 * 16 * 4 + 4 + 16
    148
    """

    def __init__(
        self,
        ratio: int = 16,
        pool_types: Sequence[str] = ("avg", "max"),
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.pool_types = check_choices("pool_types", pool_types, GLOBAL_POOLS)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        hidden_units = bottleneck_width(channels, self.ratio)
        self.reduce = keras.layers.Dense(
            hidden_units,
            **self.sublayer_arguments(activation="relu", name="reduce"),
        )
        self.reduce.build((None, channels))
        self.expand = keras.layers.Dense(
            channels, **self.sublayer_arguments(name="expand")
        )
        self.expand.build((None, hidden_units))

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        pooled = global_pools(
            inputs, self.pool_types, self.data_format, mask
        )  # [B, P, C]
        logits = ops.sum(self.expand(self.reduce(pooled)), axis=1)  # [B, C]
        gate = ops.sigmoid(logits)
        rank = len(inputs.shape)
        return expand_channel_gate(gate, self.data_format, rank)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "pool_types": self.pool_types,
        }
