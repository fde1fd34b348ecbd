from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.narrow_conv_2d import NarrowConv2D
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.pooling import max_and_mean
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_odd_integer


@register_attention("triplet_attention", "triplet")
class TripletAttention(KernelLayer, BaseGate):
    """Triplet attention: one gate over each pair of an image's three axes.

    Each branch pools one axis away by its maximum and its mean, and convolves
    what is left, so that channels are compared with rows and with columns:

        gate(p) = sigmoid(BN(conv([maximum, mean] of x over one axis)))
        y = x * (gate over C and W + gate over H and C + gate over H and W) / 3

    The convolutions have no bias and are padded with zeros. The three
    branches have 3·(2·kernel_size² + 2) weights together, whatever the number
    of channels. Averaging the three scaled images, as the paper writes it,
    is scaling by the average gate.

    The kernels' rows and columns are the pairs as they are named above: the
    first kernel runs over channels and width, in this order.

    Args:
        kernel_size: odd positive integer; 7 in the paper.
        use_spatial: whether there is a gate over height and width. Without
            it, the average is of two.
        kernel_initializer: initializer of the convolutions' kernels.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
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
        TypeError, ValueError: for an argument of the wrong type or range, an
            even `kernel_size` included.

    Reference:
        Misra et al., Rotate to Attend: Convolutional Triplet Attention
        Module, WACV 2021, arXiv:2010.03045, equations 1 to 4.

    Example:

    >>> layer = keras_attention.TripletAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> int(sum(np.prod(w.shape) for w in layer.trainable_weights))
    300
    """

    def __init__(
        self,
        kernel_size: int = 7,
        use_spatial: bool = True,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.use_spatial = check_boolean("use_spatial", use_spatial)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        names = ["channel_width", "height_channel"]
        if self.use_spatial:
            names.append("height_width")
        self.convolutions = [self._convolution(name) for name in names]
        for convolution in self.convolutions:
            convolution.build((None, None, None, 2))
        self.norms = [
            self.make_batch_norm(f"{name}_norm", (None, None, None, 1), 0.99)
            for name in names
        ]

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        over_height = ops.swapaxes(max_and_mean(x, 1), 1, 2)  # [B, C, W, 2]
        gate = self._gate(0, over_height, training)  # [B, C, W]
        total = ops.swapaxes(gate, 1, 2)[:, None]  # [B, 1, W, C]
        gate = self._gate(1, max_and_mean(x, 2), training)  # [B, H, C]
        total = total + gate[:, :, None]  # [B, H, W, C]
        if self.use_spatial:
            gate = self._gate(2, max_and_mean(x, 3), training)  # [B, H, W]
            # `gate[..., None]` is a slice that LiteRT lacks.
            total = total + ops.expand_dims(gate, -1)
        gate = total / len(self.convolutions)
        return from_channels_last(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "use_spatial": self.use_spatial,
        }

    def _gate(self, branch, pooled, training):
        logits = self.convolutions[branch](pooled)
        logits = self.norms[branch](logits, training=training)
        return ops.sigmoid(logits[..., 0])

    def _convolution(self, name):
        return NarrowConv2D(
            1, self.kernel_size, **self.sublayer_arguments(name=name)
        )
