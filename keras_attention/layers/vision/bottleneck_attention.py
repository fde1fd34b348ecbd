from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.image.relative_positions import relative_logits
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@register_attention("bottleneck_attention", "bot", "botnet")
class BottleneckAttention(BaseImageAttention):
    """Multi-head self-attention of BoTNet, with positions in height and width.

    Every position attends to every other, by what is there and by how far
    away it is, in rows and in columns:

        Q, K, V = x W, by head                            # [B, M, N, D]
        s_ij = q_i · (k_j + r_h(j, i) + r_w(j, i)) / √D
        y = concatenation of softmax(s) V of the heads    # [B, H, W, F]

    with M = H·W. r_h is a learned vector for each of the 2H - 1 distances in
    height, and r_w for each of the 2W - 1 in width, for all heads. The image's
    size must be known. It replaces the 3x3 convolution in the bottlenecks of
    the last stage; what follows is a normalization and ReLU.

    For F filters it has 3·C·F + (2H + 2W - 2)·F / N weights, and M² scores a
    head.

    Args:
        filters: Integer, F, the output's channels. Defaults to `None`, the
            input's.
        num_heads: Integer N that divides the filters. Defaults to `4`.
        use_bias: Boolean, whether the projections have biases. Defaults to
            `False`.
        position_initializer: Initializer of r_h and r_w. Defaults to `None`,
            normal with a standard deviation of 1 / √D.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`; `data_format`
            (`"channels_last"`, `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        return_attention_scores: Boolean, whether to return the scores as
            well. Defaults to `False`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. The batch may
        be `None`.

    Output shape:
        The input's, with `filters` channels. The scores are
        `(batch, N, M, M)`, positions row by row.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `num_heads` does not divide the filters or the image's
            size is not known.

    Reference:
        Srinivas et al., Bottleneck Transformers for Visual Recognition, CVPR
        2021, arXiv:2101.11605, section 3 and figure 4.

    Example:

    >>> layer = keras_attention.BottleneckAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 4, 35, 35))
    """

    def __init__(
        self,
        filters: int | None = None,
        num_heads: int = 4,
        use_bias: bool = False,
        position_initializer: InitializerLike = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = check_optional_integer("filters", filters)
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.use_bias = check_boolean("use_bias", use_bias)
        self.position_initializer = keras.initializers.get(position_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        filters = self.filters or channels
        if filters % self.num_heads:
            raise ValueError(
                "BottleneckAttention's `num_heads` must divide the filters. "
                f"Received: num_heads={self.num_heads} for {filters} filters "
                f"in layer '{self.name}'."
            )
        sizes = self._spatial_shape(input_shape)
        if None in sizes:
            raise ValueError(
                "BottleneckAttention needs a known height and width: it learns "
                "a vector for each distance. Received: shape="
                f"{tuple(input_shape)} for layer '{self.name}'. Give the "
                "model's input its size."
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes=dict(enumerate(input_shape[1:], 1))
        )
        for name in ("query", "key", "value"):
            dense = self._dense(filters, channels, name, use_bias=self.use_bias)
            setattr(self, name, dense)
        width = filters // self.num_heads
        initializer = self.position_initializer
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
        self.row_positions, self.column_positions = (
            self.add_weight(
                name=name,
                shape=(2 * size - 1, width),
                initializer=clone_initializer(initializer),
                autocast=False,  # Of scores of float32.
            )
            for name, size in zip(
                ("row_positions", "column_positions"), sizes, strict=True
            )
        )

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, height, width, _ = ops.shape(x)
        query, key, value = (
            self._split_heads(dense_positions(dense, x))
            for dense in (self.query, self.key, self.value)
        )  # [B, M, N, D]
        heads, depth = query.shape[2:]
        bias = relative_logits(
            ops.reshape(query, (batch, height, width, heads, depth)),
            self.row_positions,
            self.column_positions,
        )
        options = AttentionOptions(bias=bias, return_scores=return_scores)
        y, scores = attend(query, key, value, options)
        return ops.reshape(y, (batch, height, width, heads * depth)), scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._convolved_shape(input_shape, self.filters)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        height, width = self._spatial_shape(input_shape)
        size = None if None in (height, width) else height * width
        return (input_shape[0], self.num_heads, size, size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_heads": self.num_heads,
            "use_bias": self.use_bias,
            "position_initializer": keras.initializers.serialize(
                self.position_initializer
            ),
        }

    def _split_heads(self, x):
        """`(B, H, W, F)` to `(B, M, N, D)`."""
        x = ops.cast(x, self.compute_dtype)  # Torch narrows float64.
        batch, height, width, filters = ops.shape(x)
        heads = (self.num_heads, filters // self.num_heads)
        return ops.reshape(x, (batch, height * width, *heads))
