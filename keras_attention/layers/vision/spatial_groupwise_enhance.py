from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.normalization import unbiased_deviation
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_divides
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


@register_attention("spatial_groupwise_enhance", "sge")
class SpatialGroupwiseEnhance(BaseGate):
    """Spatial group-wise enhance (SGE): where a group is like its own mean.

    The channels are split into G groups of c = C / G. In each group, the
    features of a position are compared with the means over all positions, and
    the similarities are normalized over the positions:

        t = x · (mean over positions of x)                # [B, H, W, G]
        t = (t - mean of t) / (deviation of t + epsilon)
        s = sigmoid(w * t + b)                            # [B, H, W, G]
        y = x * s, of the group that a channel is in      # [B, H, W, C]

    The product · is over the c channels of a group, w and b are one number
    each for a group: the layer has 2·G weights, whatever the number of
    channels.

    As in the authors' code, the deviation is the root of the sum of squares
    over M - 1, where the paper divides by M. A single position has no
    deviation: its t is zero.

    Args:
        groups: Positive integer G that divides the channels. Defaults to
            `64`, as the authors'.
        epsilon: Positive number added to the deviation. Defaults to `1e-5`.
        scale_initializer: Initializer of w. Defaults to `"zeros"`.
        bias_initializer: Initializer of b. Defaults to `"ones"`.
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
            build, if `groups` does not divide the channels.

    Reference:
        Li et al., Spatial Group-wise Enhance: Improving Semantic Feature
        Learning in Convolutional Networks, 2019, arXiv:1905.09646, section 3.

    Example:

    >>> layer = keras_attention.SpatialGroupwiseEnhance(groups=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()
    8
    """

    def __init__(
        self,
        groups: int = 64,
        epsilon: float = 1e-5,
        scale_initializer: InitializerLike = "zeros",
        bias_initializer: InitializerLike = "ones",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.groups = check_positive_integer("groups", groups)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        check_divides(self, "groups", self.groups, channels)
        self.group_scale, self.group_bias = (
            self.add_weight(
                shape=(self.groups,),
                initializer=clone_initializer(initializer),
                name=name,
            )
            for name, initializer in (
                ("group_scale", self.scale_initializer),
                ("group_bias", self.bias_initializer),
            )
        )

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = widen(to_channels_last(inputs, self.data_format))
        means = self._means(x)
        _, height, width, channels = ops.shape(x)
        size = channels // self.groups
        # Of what is far from zero, little would be left after a subtraction:
        # the image is centered first, and what rounding leaves, after it.
        products = (x - means) * means
        groups = (-1, height, width, self.groups, size)
        similarity = ops.sum(ops.reshape(products, groups), axis=-1)
        similarity = similarity - self._means(similarity)
        deviation = unbiased_deviation(similarity)  # [B, G]
        deviation = ops.expand_dims(deviation, (1, 2)) + self.epsilon
        scale, bias = (
            ops.cast(weight, x.dtype)
            for weight in (self.group_scale, self.group_bias)
        )
        gate = ops.sigmoid(scale * (similarity / deviation) + bias)
        gate = ops.repeat(gate, size, axis=-1)  # [B, H, W, C]
        gate = ops.cast(gate, self.compute_dtype)
        return from_channels_last(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            "scale_initializer": keras.initializers.serialize(
                self.scale_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
        }

    def _means(self, x):
        return ops.expand_dims(mean_over_positions(x, (1, 2)), (1, 2))
