from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.normalization import normalize_positions
from keras_attention.ops.image.sums import mean_over
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_divides
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


@register_attention("efficient_multi_scale_attention", "ema")
class EfficientMultiScaleAttention(WeightedLayer, BaseGate):
    """Efficient multi-scale attention (EMA): a map for each group of channels.

    The channels are split into G groups of c = C / G. Of each group, one
    branch is scaled by a gate of its rows and one of its columns, as in
    coordinate attention, and normalized; the other is convolved. Each branch
    then weighs the channels of the other by a softmax of its means, and the
    two maps that this makes are added:

        h = sigmoid(W1 (mean over the width of x) + b1)   # [B, H, 1, c]
        w = sigmoid(W1 (mean over the height of x) + b1)  # [B, 1, W, c]
        u = norm(x * h * w)                               # [B, H, W, c]
        v = W2 conv3x3(x) + b2                            # [B, H, W, c]
        s = sigmoid(softmax(mean u) · v + softmax(mean v) · u)  # [B, H, W, 1]
        y = x * s                                         # [B, H, W, c]

    `norm` subtracts each channel's mean over positions, divides by its
    standard deviation, and applies a scale and an offset. The softmaxes are
    over the c channels. All groups share their weights: 10·c² + 4·c. The mean
    of u is the offset of the norm, and so the same for every image.

    Args:
        groups: Positive integer G that divides the channels. Defaults to
            `32`, as the authors'.
        epsilon: Positive number added to the variance. Defaults to `1e-5`.
        kernel_initializer: Initializer of W1 and W2. Defaults to
            `"he_normal"`.
        gamma_initializer: Initializer of the norm's scale. Defaults to
            `"ones"`.
        beta_initializer: Initializer of the norm's offset. Defaults to
            `"zeros"`.
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
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `groups` does not divide the channels.

    Reference:
        Ouyang et al., Efficient Multi-Scale Attention Module with
        Cross-Spatial Learning, ICASSP 2023, arXiv:2305.13563, section 3.

    Example:

    >>> layer = keras_attention.EfficientMultiScaleAttention(groups=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()  # 10 * 4**2 + 4 * 4
    176
    """

    def __init__(
        self,
        groups: int = 32,
        epsilon: float = 1e-5,
        kernel_initializer: InitializerLike = "he_normal",
        gamma_initializer: InitializerLike = "ones",
        beta_initializer: InitializerLike = "zeros",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.groups = check_positive_integer("groups", groups)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_initializer = keras.initializers.get(beta_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        check_divides(self, "groups", self.groups, channels)
        width = channels // self.groups
        self.of_lines = keras.layers.Dense(
            width, **self.sublayer_arguments(name="of_lines")
        )
        self.of_lines.build((None, None, width))
        self.convolution = keras.layers.Conv2D(
            width,
            3,
            **self.sublayer_arguments(
                padding="same", data_format="channels_last", name="convolution"
            ),
        )
        self.convolution.build((None, None, None, width))
        self.gamma, self.beta = (
            self.add_weight(
                shape=(width,),
                initializer=clone_initializer(initializer),
                name=name,
            )
            for name, initializer in (
                ("gamma", self.gamma_initializer),
                ("beta", self.beta_initializer),
            )
        )

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        _, height, width, channels = ops.shape(x)
        groups, size = self.groups, channels // self.groups
        x = ops.reshape(x, (-1, height, width, groups, size))
        x = ops.transpose(x, (0, 3, 1, 2, 4))
        x = ops.reshape(x, (-1, height, width, size))  # [B G, H, W, c]
        maps = ops.sigmoid(self._maps(x, height))  # [B G, H, W]
        maps = ops.reshape(maps, (-1, groups, height, width))
        maps = ops.transpose(maps, (0, 2, 3, 1))  # [B, H, W, G]
        gate = ops.repeat(maps, size, axis=-1)
        gate = ops.cast(gate, self.compute_dtype)
        return from_channels_last(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(
                self.gamma_initializer
            ),
            "beta_initializer": keras.initializers.serialize(
                self.beta_initializer
            ),
        }

    def _maps(self, x, height):
        """The logits of each group's map, in at least float32."""
        lines = ops.concatenate(
            [mean_over(x, 2), mean_over(x, 1)], axis=1
        )  # [B G, H + W, c]
        lines = ops.sigmoid(self.of_lines(ops.cast(lines, x.dtype)))
        rows = ops.expand_dims(lines[:, :height], 2)
        columns = ops.expand_dims(lines[:, height:], 1)
        scaled = normalize_positions(x * rows * columns, self.epsilon)
        gamma, beta = (
            ops.cast(weight, scaled.dtype) for weight in (self.gamma, self.beta)
        )
        scaled = scaled * gamma + beta  # [B G, H, W, c]
        convolved = widen(self.convolution(x))
        by_convolved = _softmax(mean_over_positions(convolved, (1, 2)))
        # The mean of what is normalized is zero, and the offset is left.
        by_scaled = _softmax(beta)
        weighted = scaled * ops.expand_dims(by_convolved, (1, 2))
        return ops.sum(weighted + convolved * by_scaled, axis=-1)


def _softmax(x):
    """Over the last axis; Keras warns of one that has a single entry."""
    return ops.softmax(x) if x.shape[-1] > 1 else ops.ones_like(x)
