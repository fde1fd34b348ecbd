import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.normalization import softmax_over_positions
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@register_attention("external_attention", "ea")
class ExternalAttention(WeightedLayer, BaseScoredLayer):
    """External attention: positions attend to a learned memory, not to another.

    With j one of the M positions, and S slots of a memory whose keys and
    values are weights, shared by all images:

        f = K (W1 x + b1)                                 # [B, M, S]
        f = softmax over the positions of f
        s = f / (1e-9 + sum over the slots of f)          # [B, M, S]
        y = relu(x + BN(W2 V s))                          # [B, H, W, C]

    Its cost grows with the number of positions, not with its square. The
    layer has 2·C² + 2·C·S + 3·C weights. The convolution before and after the
    memory, the normalization, the addition and ReLU are those of the authors'
    network; the paper's equation is y = V s.

    Args:
        memory_size: Positive integer S. Defaults to `64`.
        kernel_initializer: Initializer of W1, K, V and W2. Defaults to
            `"he_normal"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        training: Whether the batch normalization uses the batch.
        return_attention_scores: Whether to return `(outputs, s)`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's; the scores are `(batch, M, S)`, positions row by row.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Guo et al., Beyond Self-attention: External Attention using Two Linear
        Layers for Visual Tasks, IEEE TPAMI 2023, arXiv:2105.02358, equations
        5 and 6.

    Example:

    >>> layer = keras_attention.ExternalAttention(memory_size=8)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 35, 8))
    """

    def __init__(
        self,
        memory_size: int = 64,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.memory_size = check_positive_integer("memory_size", memory_size)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        size = self.memory_size
        self.query = self._dense(channels, channels, "query", use_bias=True)
        self.memory_key = self._dense(size, channels, "memory_key")
        self.memory_value = self._dense(channels, size, "memory_value")
        self.projection = self._dense(channels, channels, "projection")
        self.norm = self.make_batch_norm("norm", (None, None, None, channels))

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = to_channels_last(inputs, self.data_format)
        query = dense_positions(self.query, x)
        scores = softmax_over_positions(dense_positions(self.memory_key, query))
        total = ops.sum(scores, axis=-1, keepdims=True)
        scores = scores / (1e-9 + total)  # [B, H, W, S]
        y = dense_positions(self.memory_value, ops.cast(scores, x.dtype))
        y = dense_positions(self.projection, y)
        y = self.norm(y, training=training)
        y = from_channels_last(ops.relu(x + y), self.data_format)
        _, height, width, size = ops.shape(scores)
        return y, ops.reshape(scores, (-1, height * width, size))

    def compute_scores_shape(self, input_shape: tuple) -> tuple:
        sizes = self._spatial_shape(input_shape)
        positions = None if None in sizes else math.prod(sizes)
        return (input_shape[0], positions, self.memory_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "memory_size": self.memory_size}

    def _dense(self, units, width, name, use_bias=False):
        dense = keras.layers.Dense(
            units, **self.sublayer_arguments(use_bias=use_bias, name=name)
        )
        dense.build((None, None, None, width))
        return dense
