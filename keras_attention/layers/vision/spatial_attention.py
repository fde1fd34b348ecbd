from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.layers.vision.narrow_conv_2d import NarrowConv2D
from keras_attention.layers.vision.normalization import (
    CenteredBatchNormalization,
)
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import expand_spatial_gate
from keras_attention.ops.image.pooling import channel_max_and_mean
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer


@register_attention("spatial_attention")
class SpatialAttention(KernelLayer, BaseAnyRankGate):
    """The spatial gate of CBAM: a convolution over maximum and mean.

    The maximum and the mean over channels describe each position by two
    numbers. A convolution without bias, padded with zeros, and a batch
    normalization make one logit of each neighborhood:

        p = [maximum of x, mean of x] over channels       # [B, H, W, 2]
        s = sigmoid(BN(conv(p)))                          # [B, H, W, 1]
        y = x * s                                         # [B, H, W, C]

    The paper leaves out the batch normalization; the authors' code, which
    made the published numbers, has it, and starts its gamma at zero. The gate
    then starts at 0.5 everywhere, and the convolution learns once gamma has
    moved. A code base that stacks the mean before the maximum needs its
    kernel's two input channels swapped.

    Args:
        kernel_size: odd positive integer; 7 in the paper.
        gamma_initializer: initializer of the batch normalization's gamma:
            `"zeros"` as the authors', `"ones"` for a gate that starts out
            different at each position.
        kernel_initializer: initializer of the convolution's kernel.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
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
        TypeError, ValueError: for an argument of the wrong type or range, an
            even `kernel_size` included.

    Reference:
        Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018,
        arXiv:1807.06521, equation 3.

    Example:

    >>> layer = keras_attention.SpatialAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 1))
    >>> layer.count_params()  # 7 * 7 * 2, and 4 of the batch normalization
    102
    """

    def __init__(
        self,
        kernel_size: int = 7,
        gamma_initializer: InitializerLike = "zeros",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        arguments = self.sublayer_arguments(name="convolution")
        unknown = [None for _ in input_shape[1:]]
        if len(input_shape) == 4:
            self.convolution = NarrowConv2D(1, self.kernel_size, **arguments)
        else:
            convolution = (
                keras.layers.Conv1D
                if len(input_shape) == 3
                else keras.layers.Conv3D
            )
            self.convolution = convolution(
                1,
                self.kernel_size,
                padding="same",
                use_bias=False,
                data_format="channels_last",
                **arguments,
            )
        self.convolution.build((*unknown, 2))
        self.norm = _NormOfOneChannel(
            momentum=0.99,
            epsilon=1e-5,
            gamma_initializer=clone_initializer(self.gamma_initializer),
            dtype=self.dtype_policy,
            name="norm",
        )
        self.norm.build((*unknown, 1))

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        pooled = channel_max_and_mean(inputs, self.data_format)  # [B, H, W, 2]
        # As the zeros that are around: this is of masked zeros, all zero.
        logits = self.norm(
            self.convolution(pooled), training=training, mask=mask
        )
        gate = ops.sigmoid(logits[..., 0])  # [B, H, W]
        return expand_spatial_gate(gate, self.data_format)  # [B, H, W, 1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "gamma_initializer": keras.initializers.serialize(
                self.gamma_initializer
            ),
        }


class _NormOfOneChannel(CenteredBatchNormalization):
    """Batch normalization whose moments keep the axis of the one channel.

    With a mask Keras squeezes it too, which torch's function refuses.
    """

    def _moments(self, inputs, mask):
        mean, variance = super()._moments(inputs, mask)
        return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))
