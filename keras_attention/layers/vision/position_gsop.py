from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gsop import BaseGSoP
from keras_attention.ops.image.covariance import position_covariance
from keras_attention.ops.image.gating import expand_spatial_gate
from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.grid_pooling import adaptive_average_pool
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@register_attention("position_gsop")
class PositionGSoP(BaseGSoP):
    """Global second-order pooling over positions: one gate for each place.

    The image is averaged over a grid of P = grid_size² cells, and the gate
    sees the covariance of every two cells over `reduced_channels`, d:

        z = pool(BN(conv1x1(relu(x))))                    # [B, P, d]
        S = covariance of z between cells                 # [B, P, P]
        q[i, n] = relu(sum over j of BN(S)[i, j] K[i, j, n] + b[i, n])
        s = sigmoid(W q + c), resized                     # [B, H, W, 1]
        y = relu(x * s)                                   # [B, H, W, C]

    Unlike other gates it ends in a ReLU, so that the output is
    `relu(x * gate)`. Both the pooling to the grid and the resizing average as
    adaptive average pooling does, for sizes that do not divide as well; the
    batch normalization of S is by its rows.

    Covariance and its normalization are in at least float32. The authors'
    code subtracts not the mean over the d channels but d / P times it, the
    number of positions standing for that of channels. Here S is the
    covariance that the paper speaks of.

    Args:
        reduced_channels: positive integer d.
        expansion: positive integer; number of filters of each row.
        grid_size: positive integer; rows and columns of the grid.
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
        2019, arXiv:1811.12006, section 3.2.

    Example:

    >>> layer = keras_attention.PositionGSoP(reduced_channels=8, grid_size=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 1))
    """

    def __init__(
        self,
        reduced_channels: int = 128,
        expansion: int = 4,
        grid_size: int = 8,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(
            reduced_channels, expansion, kernel_initializer, **kwargs
        )
        self.grid_size = check_positive_integer("grid_size", grid_size)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        cells = self.grid_size**2
        self.build_gate(channels, cells, cells)

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        size = self.grid_size
        x = self.reduce_channels(inputs, training)  # [B, H, W, d]
        x = adaptive_average_pool(x, size, size)
        x = ops.reshape(x, (-1, size, size, self.reduced_channels))
        gate = self.gate_of_covariance(
            position_covariance(x), training, ops.relu
        )  # [B, P]
        gate = ops.reshape(gate, (-1, size, size, 1))
        shape = ops.shape(inputs)
        rows, columns = spatial_axes(self.data_format)
        gate = adaptive_average_pool(gate, shape[rows], shape[columns])
        gate = ops.cast(gate[..., 0], self.compute_dtype)  # [B, H, W]
        return expand_spatial_gate(gate, self.data_format)

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        return ops.relu(super().call(inputs, training=training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid_size": self.grid_size}
