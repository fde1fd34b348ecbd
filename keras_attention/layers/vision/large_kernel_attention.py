import math
from typing import Any

import keras

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_positive_integer


@register_attention("large_kernel_attention", "lka")
class LargeKernelAttention(WeightedLayer, BaseGate):
    """Large kernel attention (LKA): an image times a wide convolution of it.

    A convolution with a large kernel of K x K is taken apart into a depthwise
    one of 2 d - 1, a depthwise one of ceil(K / d) dilated by d, and one of
    1x1. The defaults are those of K = 21 and d = 3:

        s = W (depthwise 7x7, dilation 3, of (depthwise 5x5 of x)) + b
        y = x * s                                         # [B, H, W, C]

    There is no sigmoid: s has any sign and size. All three convolutions have
    biases and zeros around. The layer has C² + 77·C weights; for kernels of
    k and m it is C² + (k² + m² + 3)·C.

    In the paper's network it is placed between two 1x1 convolutions, the
    first with a GELU, inside a residual connection.

    Args:
        kernel_size: Odd positive integer, of the first depthwise convolution.
            Defaults to `5`.
        dilated_kernel_size: Odd positive integer, of the second one.
            Defaults to `7`.
        dilation: Positive integer, distance of these elements. Defaults to `3`.
        kernel_initializer: Initializer of W. Defaults to `"he_normal"`.
        depthwise_initializer: Initializer of the two depthwise kernels.
            Defaults to `None`: normal, of the standard deviation √2 / k for a
            kernel of k x k, as the authors'. Keras' initializers by the number
            of inputs count all channels, of which a depthwise convolution
            sees one.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range, an
            even kernel size included.

    Reference:
        Guo et al., Visual Attention Network, Computational Visual Media 2023,
        arXiv:2202.09741, section 3.1.

    Example:

    >>> layer = keras_attention.LargeKernelAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()  # 16**2 + 77 * 16
    1488
    """

    def __init__(
        self,
        kernel_size: int = 5,
        dilated_kernel_size: int = 7,
        dilation: int = 3,
        kernel_initializer: InitializerLike = "he_normal",
        depthwise_initializer: InitializerLike = None,
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.dilated_kernel_size = check_odd_integer(
            "dilated_kernel_size", dilated_kernel_size
        )
        self.dilation = check_positive_integer("dilation", dilation)
        self.depthwise_initializer = keras.initializers.get(
            depthwise_initializer
        )

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.local = self._depthwise(self.kernel_size, 1, "local")
        self.dilated = self._depthwise(
            self.dilated_kernel_size, self.dilation, "dilated"
        )
        # A dense layer over the channels is a convolution of 1x1.
        self.mix = keras.layers.Dense(
            channels, **self.sublayer_arguments(name="mix")
        )
        for sublayer in (self.local, self.dilated, self.mix):
            sublayer.build((None, None, None, channels))

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        gate = dense_positions(self.mix, self.dilated(self.local(x)))
        return from_channels_last(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "dilated_kernel_size": self.dilated_kernel_size,
            "dilation": self.dilation,
            "depthwise_initializer": keras.initializers.serialize(
                self.depthwise_initializer
            ),
        }

    def _depthwise(self, kernel_size, dilation, name):
        initializer = clone_initializer(self.depthwise_initializer)
        if initializer is None:
            initializer = keras.initializers.RandomNormal(
                stddev=math.sqrt(2) / kernel_size
            )
        return keras.layers.DepthwiseConv2D(
            kernel_size,
            padding="same",
            dilation_rate=dilation,
            depthwise_initializer=initializer,
            depthwise_regularizer=self.kernel_regularizer,
            bias_initializer=clone_initializer(self.bias_initializer),
            bias_regularizer=self.bias_regularizer,
            data_format="channels_last",
            dtype=self.sublayer_policy(name),
            name=name,
        )
