from collections.abc import Callable
from typing import Any

import keras

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_channel_gate import BaseChannelGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@register_attention("squeeze_excite", "se")
class SqueezeExcite(WeightedLayer, BaseChannelGate):
    """Squeeze-and-Excitation: scales each channel by a gate of the whole image.

    The squeeze is the mean of each channel over height and width. The
    excitation is a bottleneck of two dense layers, whose sigmoid is the gate:

        z = mean over positions of x              # [B, C]
        s = sigmoid(W2 relu(W1 z + b1) + b2)      # [B, C]
        y = x * s                                 # [B, H, W, C]

    W1 is `(C, C // ratio)` and W2 `(C // ratio, C)`, so the layer has
    2·C·d + d + C weights for d = C // ratio hidden units. In a residual block
    it is placed after the last batch normalization and before the addition.

    The defaults are the paper's. Other code bases round the hidden width to a
    multiple of 8 (`divisor=8`), drop the biases (`use_bias=False`), or set the
    hidden width from another tensor's channels (`hidden_units=`).

    Args:
        ratio: positive integer; the hidden width is `channels // ratio`, at
            least one.
        hidden_units: positive integer that sets the hidden width itself;
            `ratio` and `divisor` are then not used.
        divisor: positive integer; the hidden width is rounded to the nearest
            multiple of it (never below it, and never by more than a tenth
            down). `None` leaves `channels // ratio` as it is.
        activation: activation of the hidden layer.
        gate_activation: activation of the gate; it should map to [0, 1].
        use_bias: whether the two dense layers have biases.
        kernel_initializer: initializer of the two kernels.
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
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Hu et al., Squeeze-and-Excitation Networks, CVPR 2018,
        arXiv:1709.01507, equations 2 to 4.

    Example:

    >>> layer = keras_attention.SqueezeExcite(ratio=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape)
    (2, 7, 5, 16)
    >>> tuple(layer.compute_gate(x).shape)
    (2, 1, 1, 16)
    >>> layer.count_params()  # 2 * 16 * 4 + 4 + 16
    148
    """

    def __init__(
        self,
        ratio: int = 16,
        hidden_units: int | None = None,
        divisor: int | None = None,
        activation: str | Callable | None = "relu",
        gate_activation: str | Callable | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.hidden_units = check_optional_integer("hidden_units", hidden_units)
        self.divisor = check_optional_integer("divisor", divisor)
        self.activation = keras.activations.get(activation)
        self.gate_activation = keras.activations.get(gate_activation)
        self.use_bias = check_boolean("use_bias", use_bias)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        hidden_units = self._hidden_units(channels)
        self.reduce = self._dense(hidden_units, self.activation, "reduce")
        self.reduce.build((None, channels))
        self.expand = self._dense(channels, self.gate_activation, "expand")
        self.expand.build((None, hidden_units))

    def compute_channel_gate(self, means: Tensor) -> Tensor:
        return self.expand(self.reduce(means))  # [B, C]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "hidden_units": self.hidden_units,
            "divisor": self.divisor,
            "activation": keras.activations.serialize(self.activation),
            "gate_activation": keras.activations.serialize(
                self.gate_activation
            ),
            "use_bias": self.use_bias,
        }

    def _dense(self, units, activation, name):
        return keras.layers.Dense(
            units,
            **self.sublayer_arguments(
                activation=activation, use_bias=self.use_bias, name=name
            ),
        )

    def _hidden_units(self, channels):
        if self.hidden_units is not None:
            return self.hidden_units
        if self.divisor is None:
            return bottleneck_width(channels, self.ratio)
        exact = channels / self.ratio
        units = max(
            self.divisor,
            int(exact + self.divisor / 2) // self.divisor * self.divisor,
        )
        return units + self.divisor if units < 0.9 * exact else units
