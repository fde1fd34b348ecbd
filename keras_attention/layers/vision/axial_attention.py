from collections.abc import Sequence
from typing import Any

from keras_attention.layers.registry import register_attention
from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention,
)
from keras_attention.layers.vision.base_image_attention import number_of_heads
from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_choices
from keras_attention.validation import check_optional_integer

AXES = {"height": 1, "width": 2}
HEAD_WIDTH = 64


@register_attention("axial_attention", "axial")
class AxialAttention(WeightedLayer, BaseImageLayer):
    """Axial attention: multi-head attention along one axis, then the other.

    Each column of the image is a sequence of its own, and then each row:

        z = MultiHeadAttention of each column of x        # axes[0]
        y = MultiHeadAttention of each row of z           # axes[1]

    so that every position attends to every other with H·W·(H + W) scores.
    With `combine="add"` both are of x, and added. The attentions have weights
    of their own, 4·C² + 4·C each. They are sublayers: with the layer's name
    "axial", their scores are recorded as `"axial/height:scores"`, of shape
    `(batch, width, N, height, height)`, and `"axial/width:scores"`, of shape
    `(batch, height, N, width, width)`.

    Args:
        num_heads: Integer N that divides the channels. Defaults to `None`:
            heads of 64 channels. Of channels that are no multiple of 64, as
            many heads as divide them without being narrower.
        axes: List or tuple of `"height"` and `"width"`, in the order in which
            they are attended along. Defaults to both.
        combine: `"stack"`, each attention of the output of the one before,
            or `"add"`, the sum of attentions of the input. Defaults to
            `"stack"`.
        use_bias: Boolean, whether the projections have biases. Defaults to
            `True`.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`; `data_format`
            (`"channels_last"`, `"channels_first"`, or `None` for
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
            build, if `num_heads` does not divide the channels.

    Reference:
        Ho et al., Axial Attention in Multidimensional Transformers, 2019,
        arXiv:1912.12180, section 3.1. In the paper's blocks each attention
        has a norm before it and a residual connection around it, which are
        left to the network: `axes=("width",)` is one attention.

    Example:

    >>> layer = keras_attention.AxialAttention(num_heads=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape)
    (2, 7, 5, 16)
    >>> layer.count_params()  # twice 4 * 16 ** 2 + 4 * 16
    2176
    """

    def __init__(
        self,
        num_heads: int | None = None,
        axes: Sequence[str] = tuple(AXES),
        combine: str = "stack",
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_optional_integer("num_heads", num_heads)
        self.axes = check_choices("axes", axes, AXES)
        self.combine = check_choice("combine", combine, ("stack", "add"))
        self.use_bias = check_boolean("use_bias", use_bias)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        heads = number_of_heads(self, self.num_heads, channels, HEAD_WIDTH)
        self.attentions = []
        for axis in self.axes:
            attention = MultiHeadAttention(
                heads,
                use_bias=self.use_bias,
                attention_axes=AXES[axis],
                **self.sublayer_arguments(name=axis),
            )
            shape = (None, None, None, channels)
            attention.build(shape, shape)
            self.attentions.append(attention)

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        x = to_channels_last(self.to_float(inputs), self.data_format)
        if self.combine == "add":
            y = sum(attention(x) for attention in self.attentions)
        else:
            y = x
            for attention in self.attentions:
                y = attention(y)
        return from_channels_last(y, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "axes": self.axes,
            "combine": self.combine,
            "use_bias": self.use_bias,
        }
