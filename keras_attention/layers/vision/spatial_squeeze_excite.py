from typing import Any

import keras

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import expand_spatial_gate
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor

CONVOLUTIONS = {
    3: keras.layers.Conv1D,
    4: keras.layers.Conv2D,
    5: keras.layers.Conv3D,
}


@register_attention("spatial_squeeze_excite", "sse")
class SpatialSqueezeExcite(WeightedLayer, BaseAnyRankGate):
    """Squeezes the channels and scales each position (sSE).

    The squeeze is a 1x1 convolution to one channel, with a bias. Its sigmoid
    is the gate of the position, the same for all channels:

        s = sigmoid(sum over channels of w * x, + b)      # [B, H, W, 1]
        y = x * s                                         # [B, H, W, C]

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
        Roy et al., Concurrent Spatial and Channel Squeeze & Excitation in
        Fully Convolutional Networks, MICCAI 2018, arXiv:1803.02579,
        section 2.

    Example:

    >>> layer = keras_attention.SpatialSqueezeExcite()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 1))
    >>> layer.count_params()  # 16 + 1
    17
    """

    def __init__(
        self, kernel_initializer: InitializerLike = "he_normal", **kwargs: Any
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        # Of each position by itself: the same for every rank.
        self.squeeze = CONVOLUTIONS[len(input_shape)](
            1,
            1,
            **self.sublayer_arguments(
                activation="sigmoid",
                data_format="channels_last",
                name="squeeze",
            ),
        )
        self.squeeze.build((*(None for _ in input_shape[1:]), channels))

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        gate = self.squeeze(x)[..., 0]  # [B, H, W]
        return expand_spatial_gate(gate, self.data_format)  # [B, H, W, 1]
