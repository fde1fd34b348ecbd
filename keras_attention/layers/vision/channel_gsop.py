from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gsop import BaseGSoP
from keras_attention.ops.image.covariance import channel_covariance
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@register_attention("channel_gsop")
class ChannelGSoP(BaseGSoP):
    """Global second-order pooling: a gate from how the channels vary together.

    Squeeze-and-Excitation sees the mean of each channel. This gate sees the
    covariance of every two of `reduced_channels`, d, that a convolution makes
    of the image:

        z = relu(BN(conv1x1(relu(x))))                    # [B, H', W', d]
        S = covariance of z between channels              # [B, d, d]
        q[i, n] = sum over j of BN(S)[i, j] K[i, j, n] + b[i, n]
        y = x * sigmoid(W q + c)                          # [B, H, W, C]

    The batch normalization of S is by its rows, and each row has `expansion`
    filters of its own. In GSoP-Net1 the layer is in the last block of
    each stage, after the last batch normalization and before the addition.

    Covariance and its normalization are in at least float32. The defaults are
    those of the authors' code, which has no activation between the row
    convolution and the last product, and uses `strides=2` in the first stage
    of a ResNet, where the image is largest.

    Args:
        reduced_channels: positive integer d.
        expansion: positive integer; number of filters of each row.
        strides: positive integer; strides of the 1x1 convolution.
        activation: activation of the row convolution; `None` for none.
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
        Gao et al., Global Second-order Pooling Convolutional Networks, CVPR
        2019, arXiv:1811.12006, section 3.1.

    Example:

    >>> layer = keras_attention.ChannelGSoP(reduced_channels=8)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 1, 1, 16))
    """

    def __init__(
        self,
        reduced_channels: int = 128,
        expansion: int = 4,
        strides: int = 1,
        activation: str | Callable | None = None,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(
            reduced_channels, expansion, kernel_initializer, **kwargs
        )
        self.strides = check_positive_integer("strides", strides)
        self.activation = keras.activations.get(activation)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.build_gate(channels, self.reduced_channels, channels, self.strides)

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = ops.relu(self.reduce_channels(inputs, training))  # [B, H', W', d]
        gate = self.gate_of_covariance(
            channel_covariance(x), training, self.activation
        )  # [B, C]
        return expand_channel_gate(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
        }
