import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import means_and_image
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer

WEIGHTS = {
    "channel_scale": "scale_initializer",
    "channel_bias": "bias_initializer",
    "spatial_scale": "scale_initializer",
    "spatial_bias": "bias_initializer",
    "gamma": "gamma_initializer",
    "beta": "beta_initializer",
}


@register_attention("shuffle_attention", "shuffle", "sa")
class ShuffleAttention(BaseGate):
    """Shuffle attention: half of each group gated by channel, half by position.

    The channels are split into G groups, and each group into two halves of
    c = C / 2G channels. One half is gated by its means, the other by its
    normalized values; the channels of the result are then shuffled, so that
    halves meet in the next layer:

        s = sigmoid(w1 * mean over positions of x1 + b1)  # [B, 1, 1, c]
        t = sigmoid(w2 * norm(x2) + b2)                   # [B, H, W, c]
        y = shuffle([x1 * s, x2 * t])                     # [B, H, W, C]

    `norm` subtracts each channel's mean over positions, divides by its
    standard deviation, and applies a scale and an offset. The shuffle takes
    channel i of the first half of all channels to 2 i, and of the second half
    to 2 i + 1. All groups share their weights: the layer has 6·c = 3·C/G.

    The gate is what the layer multiplies its input by, before the shuffle.

    Args:
        groups: Positive integer G. If the channels cannot be split so often,
            the greatest common divisor of G and C / 2 is taken. Defaults to
            `64`, as the authors'.
        epsilon: Positive number added to the variance. Defaults to `1e-5`.
        scale_initializer: Initializer of w1 and w2. Defaults to `"zeros"`.
        bias_initializer: Initializer of b1 and b2. Defaults to `"ones"`.
        gamma_initializer: Initializer of the norm's scale. Defaults to
            `"ones"`.
        beta_initializer: Initializer of the norm's offset. Defaults to
            `"zeros"`.
        **kwargs: `data_format` (`"channels_last"`, `"channels_first"`, or
            `None` for `keras.config.image_data_format()`); and the arguments
            of `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, for an odd number of channels.

    Reference:
        Zhang and Yang, SA-Net: Shuffle Attention for Deep Convolutional
        Neural Networks, ICASSP 2021, arXiv:2102.00240, equations 1 to 4.

    Example:

    >>> layer = keras_attention.ShuffleAttention(groups=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()  # 3 * 16 / 4
    12
    """

    def __init__(
        self,
        groups: int = 64,
        epsilon: float = 1e-5,
        scale_initializer: InitializerLike = "zeros",
        bias_initializer: InitializerLike = "ones",
        gamma_initializer: InitializerLike = "ones",
        beta_initializer: InitializerLike = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.groups = check_positive_integer("groups", groups)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_initializer = keras.initializers.get(beta_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if channels % 2:
            raise ValueError(
                "ShuffleAttention needs an even number of channels, which it "
                f"splits in two. Received: {channels} channels in layer "
                f"'{self.name}'"
            )
        self._num_groups = math.gcd(self.groups, channels // 2)
        width = channels // 2 // self._num_groups
        for name, initializer in WEIGHTS.items():
            weight = self.add_weight(
                shape=(width,),
                initializer=clone_initializer(getattr(self, initializer)),
                name=name,
            )
            setattr(self, name, weight)

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        means, x = means_and_image(
            widen(to_channels_last(inputs, self.data_format)), "channels_last"
        )
        batch, height, width, channels = ops.shape(x)
        halves = (self._num_groups, 2, channels // 2 // self._num_groups)
        means = ops.reshape(means, (batch, 1, *halves))  # [B, 1, G, 2, c]
        x = ops.reshape(x, (batch, height * width, *halves))
        by_channel = self._gate("channel", means[:, :, :, 0])
        normalized = self._normalize(x[:, :, :, 1] - means[:, :, :, 1])
        by_position = self._gate("spatial", normalized)  # [B, H W, G, c]
        by_channel = by_channel + ops.zeros_like(by_position)
        gate = ops.stack([by_channel, by_position], axis=3)
        gate = ops.reshape(gate, (batch, height, width, channels))
        gate = ops.cast(gate, self.compute_dtype)
        return from_channels_last(gate, self.data_format)

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        scaled = super().call(inputs, training=training)
        shape = list(ops.shape(scaled))
        axis = self.channel_axis % 4
        halves = [*shape[:axis], 2, shape[axis] // 2, *shape[axis + 1 :]]
        scaled = ops.swapaxes(ops.reshape(scaled, halves), axis, axis + 1)
        return ops.reshape(scaled, shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            **{
                name: keras.initializers.serialize(getattr(self, name))
                for name in set(WEIGHTS.values())
            },
        }

    def _gate(self, branch, x):
        scale, bias = (
            ops.cast(getattr(self, f"{branch}_{part}"), x.dtype)
            for part in ("scale", "bias")
        )
        return ops.sigmoid(scale * x + bias)

    def _normalize(self, centered):
        """Divide by the deviation over positions, `(B, H W, G, c)`."""
        square = ops.square(centered)
        shape = ops.shape(square)
        flat = ops.reshape(square, (*shape[:2], 1, shape[2] * shape[3]))
        variance = mean_over_positions(flat, (1, 2))  # [B, G c]
        variance = ops.reshape(variance, (shape[0], 1, *shape[2:]))
        gamma, beta = (
            ops.cast(weight, square.dtype) for weight in (self.gamma, self.beta)
        )
        return centered / ops.sqrt(variance + self.epsilon) * gamma + beta
