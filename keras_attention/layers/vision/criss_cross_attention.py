from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.criss_cross import criss_cross_attention
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer

RATIO = 8


@register_attention("criss_cross_attention", "criss_cross", "ccnet")
class CrissCrossAttention(BaseImageAttention):
    """Criss-cross attention: to one's row and column, several times.

    Each position takes a mean of the positions of its row and its column, by
    the similarity of their projections. After a second time, with the same
    weights, something of every position has reached every other:

        Q, K, V = x W + b                                 # [B, H, W, d, d, C]
        x <- x + α · softmax over row and column (Q Kᵀ) V

    Products are not scaled. α is learned and starts at zero: at first the
    layer is the identity. It has 2·(C·d + d) + C² + C + 1 weights, and H·W·(H
    + W) scores, where attention to all positions has (H·W)².

    Args:
        recurrence: Integer, how many times it is applied. Defaults to `2`.
        reduced_channels: Integer, d, the width of queries and keys. Defaults
            to `None`, an eighth of the channels, at least one.
        scale_initializer: Initializer of α. Defaults to `"zeros"`.
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
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's. The scores are
        `(batch, recurrence, height, width, height + width)`: of each position
        those of its column, then those of its row.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Huang et al., CCNet: Criss-Cross Attention for Semantic Segmentation,
        ICCV 2019, arXiv:1811.11721, equations 1 and 2.

    Example:

    >>> layer = keras_attention.CrissCrossAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 2, 7, 5, 12))
    """

    def __init__(
        self,
        recurrence: int = 2,
        reduced_channels: int | None = None,
        scale_initializer: InitializerLike = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.recurrence = check_positive_integer("recurrence", recurrence)
        self.reduced_channels = check_optional_integer(
            "reduced_channels", reduced_channels
        )
        self.scale_initializer = keras.initializers.get(scale_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        width = self.reduced_channels or max(1, channels // RATIO)
        self.query = self._dense(width, channels, "query")
        self.key = self._dense(width, channels, "key")
        self.value = self._dense(channels, channels, "value")
        self.scale = self.add_weight(
            name="scale",
            shape=(),
            initializer=clone_initializer(self.scale_initializer),
        )

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        scale, every = ops.cast(self.scale, x.dtype), []
        for _ in range(self.recurrence):
            attended, scores = criss_cross_attention(
                *(
                    dense_positions(dense, x)
                    for dense in (self.query, self.key, self.value)
                )
            )
            x = scale * attended + x
            every.append(scores)
        return x, ops.stack(every, axis=1) if return_scores else None

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        height, width = self._spatial_shape(input_shape)
        both = None if None in (height, width) else height + width
        return (input_shape[0], self.recurrence, height, width, both)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrence": self.recurrence,
            "reduced_channels": self.reduced_channels,
            "scale_initializer": keras.initializers.serialize(
                self.scale_initializer
            ),
        }
