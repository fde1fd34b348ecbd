from typing import Any

import keras
from keras import ops

from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.image.covariance import channel_covariance
from keras_attention.ops.image.covariance import newton_schulz_square_root
from keras_attention.ops.image.covariance import upper_triangle
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class CovariancePooling(KernelLayer, BaseImageLayer):
    """Pools an image to the root of the covariance of its channels.

    In a classification network it takes the role of the global average
    pooling, and gives the classifier the second order of the features:

        z = relu(BN(conv1x1(x)))                          # [B, H, W, d]
        S = covariance of z between channels              # [B, d, d]
        y = upper triangle of sqrt(S)                     # [B, d (d + 1) / 2]

    The square root evens out the few large eigenvalues of a covariance. It is
    computed by `iterations` of Newton and Schulz on S over its trace, which is
    made up for afterwards. GSoP-Net2 has this layer at its end, with
    `iterations=3` in its authors' code; the default of 5 is that of iSQRT-COV.

    Covariance and root are in at least float32. The output has no image axes,
    so a mask ends here.

    Args:
        reduced_channels: positive integer d, or `None` to leave out
            convolution, normalization and ReLU: d is then the number of
            channels.
        iterations: positive integer; steps of the square root.
        kernel_initializer: initializer of the convolution's kernel.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image tensor.
        training: whether the batch normalization uses the batch.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        `(batch, d (d + 1) / 2)`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Li et al., Towards Faster Training of Global Covariance Pooling
        Networks by Iterative Matrix Square Root Normalization, CVPR 2018,
        arXiv:1712.01034; Gao et al., Global Second-order Pooling
        Convolutional Networks, CVPR 2019, arXiv:1811.12006.

    Example:

    >>> layer = keras_attention.CovariancePooling(reduced_channels=8)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape)
    (2, 36)
    """

    def __init__(
        self,
        reduced_channels: int | None = 256,
        iterations: int = 5,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.reduced_channels = check_optional_integer(
            "reduced_channels", reduced_channels
        )
        self.iterations = check_positive_integer("iterations", iterations)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if self.reduced_channels is None:
            return
        self.reduce = keras.layers.Conv2D(
            self.reduced_channels,
            1,
            **self.sublayer_arguments(
                use_bias=False, data_format="channels_last", name="reduce"
            ),
        )
        self.reduce.build((None, None, None, channels))
        self.norm = self.make_batch_norm(
            "norm", (None, None, None, self.reduced_channels)
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        x = to_channels_last(self.to_float(inputs), self.data_format)
        if self.reduced_channels is not None:
            x = ops.relu(self.norm(self.reduce(x), training=training))
        root = newton_schulz_square_root(
            channel_covariance(x), self.iterations
        )  # [B, d, d]
        return ops.cast(upper_triangle(root), self.compute_dtype)

    def compute_mask(
        self, inputs: Tensor, previous_mask: Tensor | None = None
    ) -> Any:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = self.reduced_channels or input_shape[self.channel_axis]
        return (input_shape[0], size * (size + 1) // 2)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduced_channels": self.reduced_channels,
            "iterations": self.iterations,
        }
