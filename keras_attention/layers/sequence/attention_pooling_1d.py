from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_sequence_pooling import (
    BaseSequencePooling,
)
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.scores import masked_softmax
from keras_attention.ops.attention.scores import weighted_mean
from keras_attention.ops.precision import widen
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_sequence_rank
from keras_attention.validation import check_sequence_shape


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionPooling1D(BaseSequencePooling):
    """Pools a sequence to a vector by additive attention with a learned query.

        u[t] = tanh(x[t] W + b)                    # [B, T, units]
        scores = softmax over T of u[t] · query    # [B, T]
        y = sum over t of scores[t] * x[t]         # [B, D]

    The attention of hierarchical attention networks: over the outputs of an
    LSTM, in place of its last output or of `GlobalAveragePooling1D`. Masked
    tokens take no part and may hold anything, NaN included; a sequence of
    masked tokens alone gives zeros.

    Args:
        units: Integer, width of W. Defaults to `None`, the input's.
        use_bias: Boolean, whether there is b. Defaults to `True`.
        **kwargs: `kernel_initializer`, of W and the query,
            `bias_initializer`, `kernel_regularizer`, `bias_regularizer`, and
            the arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, T, D)`.
        mask: Boolean tensor `(batch, T)`, `False` for masked tokens. Keras
            passes the mask that the input carries.
        return_attention_scores: Boolean, whether to return the scores as
            well. Defaults to `False`.

    Input shape:
        `(batch, T, D)`. Batch and T may be `None`.

    Output shape:
        `(batch, D)`; scores `(batch, T)`.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range or shapes that do not fit.

    Reference:
        Yang et al., Hierarchical Attention Networks for Document
        Classification, NAACL 2016, equations 5 to 7.

    Example:

    >>> layer = keras_attention.AttentionPooling1D()
    >>> x = np.ones((2, 5, 8), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 8), (2, 5))
    >>> layer.count_params()  # 8 * 8 + 8 + 8
    80
    """

    def __init__(
        self, units: int | None = None, use_bias: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.units = check_optional_integer("units", units)
        self.use_bias = check_boolean("use_bias", use_bias)

    def build(self, input_shape: Shape) -> None:
        channels = check_sequence_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: channels})
        units = self.units or channels
        self.projection = keras.layers.Dense(
            units,
            activation="tanh",
            use_bias=self.use_bias,
            **self.sublayer_arguments("projection"),
        )
        self.projection.build((None, None, channels))
        self.query = self.add_weight(
            name="query",
            shape=(units,),
            initializer=clone_initializer(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
        )

    def pool(
        self, inputs: Tensor, mask: Tensor | None, training: bool | None
    ) -> tuple[Any, Any]:
        hidden = widen(self.projection(inputs))  # [B, T, units]
        query = ops.cast(self.query, hidden.dtype)
        scores = ops.sum(hidden * query, axis=-1)
        scores = masked_softmax(scores, mask)  # [B, T]
        return weighted_mean(scores[:, None], inputs)[:, 0], scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, _, channels = check_sequence_rank(self, input_shape)
        return (batch, channels)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape[:2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "use_bias": self.use_bias,
        }
