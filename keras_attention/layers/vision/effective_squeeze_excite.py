from typing import Any

import keras

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_channel_gate import BaseChannelGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor


@register_attention("effective_squeeze_excite", "ese")
class EffectiveSqueezeExcite(WeightedLayer, BaseChannelGate):
    """Effective Squeeze-and-Excitation: one dense layer, no bottleneck.

    The two dense layers of `SqueezeExcite` lose channel information in the
    bottleneck between them. Here one dense layer of full width takes their
    place, and a hard sigmoid that of the sigmoid:

        z = mean over positions of x                      # [B, C]
        s = relu6(W z + b + 3) / 6                        # [B, C]
        y = x * s                                         # [B, H, W, C]

    W is `(C, C)`: the layer has C·C + C weights.

    Args:
        kernel_initializer: initializer of the kernel.
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
        ValueError: at build, if the input is no image of known channels.

    Reference:
        Lee and Park, CenterMask: Real-Time Anchor-Free Instance Segmentation,
        CVPR 2020, arXiv:1911.06667, section 3.3.

    Example:

    >>> layer = keras_attention.EffectiveSqueezeExcite()
    >>> tuple(layer(np.ones((2, 7, 5, 16), "float32")).shape)
    (2, 7, 5, 16)
    >>> layer.count_params()  # 16 * 16 + 16
    272
    """

    def __init__(
        self, kernel_initializer: InitializerLike = "he_normal", **kwargs: Any
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.excite = keras.layers.Dense(
            channels,
            **self.sublayer_arguments(activation="hard_sigmoid", name="excite"),
        )
        self.excite.build((None, channels))

    def compute_channel_gate(self, means: Tensor) -> Tensor:
        return self.excite(means)  # [B, C]
