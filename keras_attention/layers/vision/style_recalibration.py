from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.normalization import unbiased_deviation
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor


@register_attention("style_recalibration", "srm")
class StyleRecalibration(KernelLayer, BaseGate):
    """Style-based recalibration module (SRM): a gate by mean and deviation.

    Each channel's gate is a function of its own mean m and standard deviation
    d over the positions, its style, and of no other channel:

        z = w1 * m + w2 * d                               # [B, C]
        s = sigmoid(BN(z))
        y = x * s                                         # [B, H, W, C]

    The layer has 2·C weights and the 2·C of the normalization. w1 and w2
    start at zero, as the authors': the gate starts at 0.5. The deviation is
    the root of the sum of squares over M - 1, as in their code, where the
    paper divides by M. A single position has a deviation of zero.

    Args:
        kernel_initializer: Initializer of w1 and w2. Defaults to `"zeros"`.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        training: Whether the batch normalization uses the batch.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Lee et al., SRM: A Style-based Recalibration Module for Convolutional
        Neural Networks, ICCV 2019, arXiv:1903.10829, section 3.

    Example:

    >>> layer = keras_attention.StyleRecalibration()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 1, 1, 16))
    >>> int(sum(np.prod(w.shape) for w in layer.trainable_weights))
    64
    """

    def __init__(
        self, kernel_initializer: InitializerLike = "zeros", **kwargs: Any
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.kernel = self.add_weight(
            shape=(2, channels),
            initializer=clone_initializer(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.norm = self.make_batch_norm("norm", (None, channels))

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = widen(to_channels_last(inputs, self.data_format))
        mean = mean_over_positions(x, (1, 2))  # [B, C]
        deviation = unbiased_deviation(x - ops.expand_dims(mean, (1, 2)))
        kernel = ops.cast(self.kernel, x.dtype)
        style = kernel[0] * mean + kernel[1] * deviation
        style = ops.cast(style, self.compute_dtype)
        gate = ops.sigmoid(self.norm(style, training=training))
        return expand_channel_gate(gate, self.data_format)
