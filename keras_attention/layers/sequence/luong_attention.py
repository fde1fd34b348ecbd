from typing import Any

import keras

from keras_attention.layers.sequence.base_score_attention import (
    BaseScoreAttention,
)
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.scores import additive_scores
from keras_attention.ops.attention.scores import product_scores
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_optional_integer

SCORES = ("dot", "general", "concat")


@keras.saving.register_keras_serializable(package="keras_attention")
class LuongAttention(BaseScoreAttention):
    """Global attention of Luong et al., with the paper's three scores.

        dot       q · k
        general   (q W) · k
        concat    v · tanh([q; k] W)

        scores = softmax over S of score(q, k)    # [B, T, S]
        output = dropout(scores) · value          # [B, T, E]

    The output is the paper's context vector c. Its attentional state
    tanh(W [c; q]) is a `Concatenate` and a `Dense` layer after it.

    A query without keys gets zeros. Masked tokens may hold anything, NaN
    included. The scores that are returned are those before dropout.

    Args:
        score: `"dot"`, `"general"` or `"concat"`. Products are not scaled.
            Defaults to `"dot"`.
        units: Integer, width of W and v. Used only with `score="concat"`.
            Defaults to `None`, the query's width.
        dropout: Float in [0, 1), rate at which scores are dropped in
            training. Defaults to `0.0`.
        seed: Integer seed of the dropout. Defaults to `None`.
        **kwargs: `kernel_initializer` and `kernel_regularizer`, of W and v,
            and the arguments of `keras.layers.Layer`.

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
        query `(batch, T, D)`, value `(batch, S, E)`, key `(batch, S, D)`; the
        key's width may be another one unless `score="dot"`. Batch, T and S
        may be `None`. There may be further axes after the batch, the same of
        all three, as in `(batch, height, width, channels)`: each of their
        positions is by itself. Masks have all axes but the last.

    Output shape:
        `(batch, T, E)`; scores `(batch, T, S)`. Further axes are after the
        batch.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range or shapes that do not fit.

    Reference:
        Luong et al., Effective Approaches to Attention-based Neural Machine
        Translation, EMNLP 2015, arXiv:1508.04025, section 3.1.

    Example:

    >>> layer = keras_attention.LuongAttention("general")
    >>> decoder = np.ones((2, 3, 6), "float32")
    >>> encoder = np.ones((2, 5, 8), "float32")
    >>> tuple(layer([decoder, encoder]).shape), layer.count_params()  # 6 * 8
    ((2, 3, 8), 48)
    """

    def __init__(
        self,
        score: str = "dot",
        units: int | None = None,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dropout=dropout, seed=seed, **kwargs)
        self.score = check_choice("score", score, SCORES)
        self.units = check_optional_integer("units", units)

    def build_scores(self, query_width: int, key_width: int) -> None:
        if self.score == "dot" and query_width != key_width:
            raise ValueError(
                'Query and key must have the same width for score="dot". '
                f"Received: {query_width} and {key_width} for layer "
                f"'{self.name}'. Use score=\"general\"."
            )
        if self.score == "general":
            self.query_projection = self._add_projection(
                "query", query_width, key_width
            )
        if self.score == "concat":
            # The rows of W that meet q, and those that meet k.
            units = self.units or query_width
            self.query_projection = self._add_projection(
                "query", query_width, units
            )
            self.key_projection = self._add_projection("key", key_width, units)
            self.scale = self.add_weight(
                name="scale",
                shape=(units,),
                initializer=clone_initializer(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
            )

    def compute_scores(self, query: Tensor, key: Tensor) -> Any:
        if self.score == "concat":
            query, key = self.query_projection(query), self.key_projection(key)
            return additive_scores(query, key, self.scale)
        if self.score == "general":
            query = self.query_projection(query)
        return product_scores(query, key)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "score": self.score,
            "units": self.units,
        }

    def _add_projection(self, name, width, units):
        projection = keras.layers.Dense(
            units, use_bias=False, **self.sublayer_arguments(name)
        )
        projection.build((None, None, width))
        return projection
