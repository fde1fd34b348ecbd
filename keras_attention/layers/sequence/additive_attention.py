from typing import Any

import keras

from keras_attention.layers.sequence.base_score_attention import (
    BaseScoreAttention,
)
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.scores import additive_scores
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class AdditiveAttention(BaseScoreAttention):
    """Additive attention, of Bahdanau et al.: v · tanh(W q + U k).

        scores = softmax over S of sum(v * tanh(q W + k U))    # [B, T, S]
        output = dropout(scores) · value                       # [B, T, E]

    Takes the arguments, inputs, configurations and weights of
    `keras.layers.AdditiveAttention`, which has no W and U: the default here
    too. With `units` they are learned, as in the paper, and queries and keys
    may have different widths.

    A query without keys gets zeros, where Keras has the mean of all values.
    Masked tokens may hold anything, NaN included. The scores that are
    returned are those before dropout, so asking for them does not change what
    they are.

    Args:
        use_scale: Boolean, whether v is learned, of the width of what is
            added. Otherwise it is ones. Defaults to `True`.
        dropout: Float in [0, 1), rate at which scores are dropped in
            training. Defaults to `0.0`.
        units: Integer, width to which W and U project queries and keys.
            Defaults to `None`: no projections.
        seed: Integer seed of the dropout. Defaults to `None`.
        **kwargs: `kernel_initializer` and `kernel_regularizer`, of W, U and
            v, and the arguments of `keras.layers.Layer`.

    Call arguments:
        query: Float tensor, what attends; or the list `[query, value]` or
            `[query, value, key]`, as Keras takes it.
        value: Float tensor, what is averaged. Defaults to `None`, the query.
        key: Float tensor, what the query is compared with. Defaults to
            `None`, the value.
        query_mask: Boolean tensor `(batch, T)`, `False` for masked tokens,
            whose output is zero.
        value_mask: Boolean tensor `(batch, S)`, `False` for masked tokens, to
            which no query attends. Keras passes the masks that the inputs
            carry.
        key_mask: As `value_mask`; a token is attended to if both allow it.
        mask: The list `[query_mask, value_mask]` for a list of inputs, or
            `query_mask` by another name.
        return_attention_scores: Boolean, whether to return the scores as
            well. Defaults to `False`.
        training: Boolean, whether scores are dropped.
        use_causal_mask: Boolean, whether query i attends to keys up to i
            alone, counted from the first key as in Keras. Defaults to
            `False`.

    Input shape:
        query `(batch, T, D)`, value `(batch, S, E)`, key `(batch, S, D)`.
        Batch, T and S may be `None`. There may be further axes after the
        batch, the same of all three, as in `(batch, height, width,
        channels)`: each of their positions is by itself. Masks have all axes
        but the last.

    Output shape:
        `(batch, T, E)`; scores `(batch, T, S)`. Further axes are after the
        batch.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range or shapes that do not fit.

    Reference:
        Bahdanau et al., Neural Machine Translation by Jointly Learning to
        Align and Translate, ICLR 2015, arXiv:1409.0473, appendix A.1.2.

    Example:

    >>> layer = keras_attention.AdditiveAttention(units=10)
    >>> decoder = np.ones((2, 1, 6), "float32")
    >>> encoder = np.ones((2, 5, 8), "float32")
    >>> output, scores = layer(decoder, encoder, return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 1, 8), (2, 1, 5))
    """

    def __init__(
        self,
        use_scale: bool = True,
        dropout: float = 0.0,
        units: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dropout=dropout, seed=seed, **kwargs)
        self.use_scale = check_boolean("use_scale", use_scale)
        self.units = check_optional_integer("units", units)

    def build_scores(self, query_width: int, key_width: int) -> None:
        if self.units is None and query_width != key_width:
            raise ValueError(
                "Query and key must have the same width where nothing "
                f"projects them. Received: {query_width} and {key_width} for "
                f"layer '{self.name}'. Give `units`."
            )
        if self.units is not None:
            self.query_projection = self._add_projection("query", query_width)
            self.key_projection = self._add_projection("key", key_width)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(
                name="scale",
                shape=(self.units or query_width,),
                initializer=clone_initializer(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
            )

    def compute_scores(self, query: Tensor, key: Tensor) -> Any:
        if self.units is not None:
            query, key = self.query_projection(query), self.key_projection(key)
        return additive_scores(query, key, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "use_scale": self.use_scale,
            "units": self.units,
        }

    def _add_projection(self, name, width):
        projection = keras.layers.Dense(
            self.units, use_bias=False, **self.sublayer_arguments(name)
        )
        projection.build((None, None, width))
        return projection
