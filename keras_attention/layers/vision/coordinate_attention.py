from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.sums import mean_over
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@register_attention("coordinate_attention", "coordatt")
class CoordinateAttention(WeightedLayer, BaseGate):
    """Coordinate attention: a gate for each row times one for each column.

    Pooling along one axis at a time keeps the position along the other. The
    rows and the columns go through one shared bottleneck, and then through a
    dense layer each:

        h = mean over the width of x                      # [B, H, C]
        w = mean over the height of x                     # [B, W, C]
        f = activation(BN(W1 [h; w] + b1))                # [B, H + W, d]
        g_h = sigmoid(W2 f[:H] + b2)                      # [B, H, 1, C]
        g_w = sigmoid(W3 f[H:] + b3)                      # [B, 1, W, C]
        y = x * g_h * g_w                                 # [B, H, W, C]

    with d = max(min_units, C // ratio). That is 3·C·d + 3·d + 2·C weights.
    As in the authors' code, all three dense layers have biases.

    Args:
        ratio: positive integer; the bottleneck has `channels // ratio`
            units.
        min_units: positive integer; the bottleneck has no fewer units.
        activation: activation of the bottleneck; the paper's is h-swish,
            which Keras calls `"hard_silu"`.
        kernel_initializer: initializer of the three kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
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
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Hou et al., Coordinate Attention for Efficient Mobile Network Design,
        CVPR 2021, arXiv:2103.02907, equations 4 to 9.

    Example:

    >>> layer = keras_attention.CoordinateAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> int(sum(np.prod(w.shape) for w in layer.trainable_weights))
    440
    """

    def __init__(
        self,
        ratio: int = 32,
        min_units: int = 8,
        activation: str | Callable | None = "hard_silu",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.min_units = check_positive_integer("min_units", min_units)
        self.activation = keras.activations.get(activation)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        units = max(self.min_units, channels // self.ratio)
        self.reduce = self._dense(units, "reduce")
        self.reduce.build((None, None, channels))
        self.norm = self.make_batch_norm("norm", (None, None, units))
        self.expand_height = self._dense(channels, "expand_height")
        self.expand_height.build((None, None, units))
        self.expand_width = self._dense(channels, "expand_width")
        self.expand_width.build((None, None, units))

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        height = ops.shape(x)[1]
        lines = ops.concatenate(
            [mean_over(x, 2), mean_over(x, 1)], axis=1
        )  # [B, H + W, C]
        features = self.reduce(ops.cast(lines, x.dtype))  # [B, H + W, d]
        features = self.activation(self.norm(features, training=training))
        rows = ops.sigmoid(self.expand_height(features[:, :height]))
        columns = ops.sigmoid(self.expand_width(features[:, height:]))
        gate = rows[:, :, None] * columns[:, None]  # [B, H, W, C]
        return from_channels_last(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "min_units": self.min_units,
            "activation": keras.activations.serialize(self.activation),
        }

    def _dense(self, units, name):
        return keras.layers.Dense(units, **self.sublayer_arguments(name=name))
