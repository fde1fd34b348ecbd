from typing import Any

import keras
from keras import ops

from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.vision.base_image_attention import number_of_heads
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_optional_integer

HEAD_WIDTH = 64


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionPooling2D(BaseImageAttention):
    """Pools an image by multi-head attention of its mean, as CLIP does.

    In a network for classification or retrieval it takes the place of the
    global average pooling. The mean of all positions is a token in front of
    them, all tokens get learned positions, and the mean attends to all:

        z = [mean over positions of x; x] + positions     # [B, 1 + M, C]
        Q = z_0 W_q + b_q,  K = z W_k + b_k,  V = z W_v + b_v
        head = softmax(Q Kᵀ / √D) V                       # [B, 1, N, D]
        y = concatenation of the heads, projected         # [B, output_dim]

    with M = H·W. It has (M + 1)·C + 3·C² + 3·C + (C + 1)·output_dim weights.
    The positions are for images of one size, which must be known.

    Args:
        output_dim: Integer, width of the output. Defaults to `None`, the
            input's channels.
        num_heads: Integer N that divides the channels. Defaults to `None`:
            heads of 64 channels, as CLIP has them. Of channels that are no
            multiple of 64, as many heads as divide them without being
            narrower.
        kernel_initializer: Initializer of the four kernels. Defaults to
            `"lecun_normal"`, whose standard deviation of 1 / √C is the
            authors'.
        position_initializer: Initializer of the positions. Defaults to
            `None`, normal with a standard deviation of 1 / √C.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
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
        `(batch, output_dim)`. The scores are `(batch, N, 1, 1 + M)`: the
        mean's first, then those of the positions, row by row.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `num_heads` does not divide the channels or the image's
            size is not known.

    Reference:
        Radford et al., Learning Transferable Visual Models From Natural
        Language Supervision, ICML 2021, arXiv:2103.00020, section 2.4; the
        authors' `AttentionPool2d`.

    Example:

    >>> layer = keras_attention.AttentionPooling2D(output_dim=10, num_heads=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 10), (2, 4, 1, 36))
    """

    def __init__(
        self,
        output_dim: int | None = None,
        num_heads: int | None = None,
        kernel_initializer: InitializerLike = "lecun_normal",
        position_initializer: InitializerLike = None,
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.output_dim = check_optional_integer("output_dim", output_dim)
        self.num_heads = check_optional_integer("num_heads", num_heads)
        self.position_initializer = keras.initializers.get(position_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self._heads = number_of_heads(
            self, self.num_heads, channels, HEAD_WIDTH
        )
        height, width = self._spatial_shape(input_shape)
        if None in (height, width):
            raise ValueError(
                "AttentionPooling2D needs a known height and width: it learns "
                "a vector for each position. Received: shape="
                f"{tuple(input_shape)} for layer '{self.name}'. Give the "
                "model's input its size."
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes=dict(enumerate(input_shape[1:], 1))
        )
        initializer = self.position_initializer
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=channels**-0.5)
        self.positions = self.add_weight(
            name="positions",
            shape=(1 + height * width, channels),
            initializer=clone_initializer(initializer),
        )
        self.query = self._dense(channels, channels, "query")
        self.key = self._dense(channels, channels, "key")
        self.value = self._dense(channels, channels, "value")
        self.project = self._dense(
            self.output_dim or channels, channels, "project"
        )

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, height, width, channels = ops.shape(x)
        mean = global_average_pool(x)[:, None]  # [B, 1, C]
        tokens = ops.reshape(x, (batch, height * width, channels))
        tokens = ops.concatenate([mean, tokens], axis=1)
        tokens = tokens + ops.cast(self.positions, tokens.dtype)
        query, key, value = (
            self._split_heads(dense(part))
            for dense, part in (
                (self.query, tokens[:, :1]),
                (self.key, tokens),
                (self.value, tokens),
            )
        )
        options = AttentionOptions(return_scores=return_scores)
        y, scores = attend(query, key, value, options)
        return self.project(ops.reshape(y, (batch, channels))), scores

    def compute_mask(
        self, inputs: Tensor, previous_mask: Tensor | None = None
    ) -> Any:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[self.channel_axis]
        return (input_shape[0], self.output_dim or channels)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        height, width = self._spatial_shape(input_shape)
        heads = number_of_heads(
            self, self.num_heads, input_shape[self.channel_axis], HEAD_WIDTH
        )
        tokens = None if None in (height, width) else 1 + height * width
        return (input_shape[0], heads, 1, tokens)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "num_heads": self.num_heads,
            "position_initializer": keras.initializers.serialize(
                self.position_initializer
            ),
        }

    def _split_heads(self, x):
        """`(B, T, C)` to `(B, T, N, D)`."""
        batch, length, channels = ops.shape(x)
        heads = (self._heads, channels // self._heads)
        return ops.reshape(x, (batch, length, *heads))
