from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.positions import sinusoidal_positions
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability


@keras.saving.register_keras_serializable(package="keras_attention")
class TokenEmbedding(keras.layers.Layer):
    """Vectors of tokens, scaled by √D, and their positions; and back.

        x[t] = √D · E[token[t]] + sinusoids(t)
        logits = y Eᵀ

    Token 0 is padding, and masked.

    Args:
        vocabulary_size: number of tokens V.
        width: number of channels D.
        positions: `"sinusoidal"`, or `None` for mixers that know the order.
        dropout: rate, on the sum.
        embeddings_initializer: `None` is a normal distribution of standard
            deviation 1/√D, as in the authors' code.
        **kwargs: the arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: integers of shape `(batch, time)`.
        start: position of the first token of each row, `(batch,)`, for
            decoding; `None` is 0.
        training: whether dropout is applied.

    Input shape:
        `(batch, time)`.

    Output shape:
        `(batch, time, width)`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, sections
        3.4 and 3.5.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        positions: str | None = "sinusoidal",
        dropout: float = 0.0,
        embeddings_initializer: InitializerLike = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = check_positive_integer(
            "vocabulary_size", vocabulary_size
        )
        self.width = check_positive_integer("width", width)
        self.positions = check_choice(
            "positions", positions, ("sinusoidal", None)
        )
        if positions is not None and width % 2:
            raise ValueError(
                "Sinusoids come in pairs of sine and cosine: `width` must be "
                f"even. Received: width={width}. Or set positions=None."
            )
        self.dropout = check_probability("dropout", dropout)
        if embeddings_initializer is None:
            embeddings_initializer = keras.initializers.RandomNormal(
                stddev=width**-0.5
            )
        self.embeddings_initializer = keras.initializers.get(
            embeddings_initializer
        )
        self.supports_masking = True

    def build(
        self, tokens_shape: Shape, start_shape: Shape | None = None
    ) -> None:
        self.embeddings = self.add_weight(
            shape=(self.vocabulary_size, self.width),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )
        self.drop = keras.layers.Dropout(
            self.dropout, name="dropout", dtype=self.dtype_policy
        )

    def call(
        self,
        tokens: Tensor,
        start: Tensor | int | None = None,
        training: bool | None = None,
    ) -> Any:
        tokens = ops.cast(tokens, "int32")
        x = ops.take(self.embeddings, tokens, axis=0)  # [B, T, D]
        x = x * ops.cast(self.width**0.5, x.dtype)
        if self.positions is not None:
            places = ops.arange(ops.shape(tokens)[1], dtype="int32")
            if start is not None:
                start = ops.expand_dims(ops.cast(start, "int32"), 1)
                places = start + places  # [B, T]
            sinusoids = sinusoidal_positions(places, self.width)
            x = x + ops.cast(sinusoids, x.dtype)
        return self.drop(x, training=training)

    def to_logits(self, x: Tensor) -> Tensor:
        """`(B, T, D)` to logits `(B, T, V)`, of at least float32."""
        embeddings = ops.cast(self.embeddings, x.dtype)
        logits = ops.matmul(x, ops.transpose(embeddings))
        is_half = self.compute_dtype in ("float16", "bfloat16")
        return ops.cast(logits, "float32") if is_half else logits

    def compute_mask(self, tokens: Tensor, mask: Tensor | None = None) -> Any:
        return ops.not_equal(tokens, 0)

    def compute_output_shape(
        self, tokens_shape: Shape, start_shape: Shape | None = None
    ) -> Shape:
        return (*tokens_shape, self.width)

    def compute_output_spec(
        self,
        tokens: Tensor,
        start: Tensor | int | None = None,
        training: bool | None = None,
    ) -> Any:
        return keras.KerasTensor(
            (*tokens.shape, self.width), dtype=self.compute_dtype
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "positions": self.positions,
            "dropout": self.dropout,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
        }
