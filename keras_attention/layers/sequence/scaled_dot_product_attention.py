from typing import Any

import keras
from keras import ops

from keras_attention.layers.input_lists import is_list_of_masks
from keras_attention.layers.input_lists import split_inputs
from keras_attention.layers.input_lists import split_masks
from keras_attention.layers.sequence.attention_axes import check_axes
from keras_attention.layers.sequence.attention_axes import check_is_sequence
from keras_attention.layers.sequence.attention_axes import find_axes
from keras_attention.layers.sequence.attention_axes import fold_arguments
from keras_attention.layers.sequence.attention_axes import to_axes
from keras_attention.layers.sequence.base_attention import BaseAttention
from keras_attention.layers.sequence.call_arguments import AttentionInputs
from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.ops.attention.scaled_dot_product import (
    check_attention_shapes,
)
from keras_attention.ops.precision import widen
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_number

SCORE_MODES = ("dot", "concat")


@keras.saving.register_keras_serializable(package="keras_attention")
class ScaledDotProductAttention(BaseAttention):
    """Dot-product attention without projections: softmax(Q Kᵀ / √D) V.

        scores = softmax(query · keyᵀ · scale)      # [B, T, S]
        output = dropout(scores) · value            # [B, T, E]

    With one input it is self-attention. Long sequences are computed in chunks
    of queries, exactly, in memory that grows linearly.

    Takes the inputs and configurations of `keras.layers.Attention`, whose
    products are not scaled, and which attends along the last axis but one:
    `scale=1.0` and `attention_axes=-2` here, which `from_config` sets for a
    configuration of Keras.

    A query without keys gets zeros. Masked tokens may hold anything, NaN
    included. Asking for the scores does not change the output. With fewer
    queries than keys, the queries are the last positions: under `causal`,
    query i of T attends to keys up to S - T + i.

    Args:
        scale: Float, factor of the products. Defaults to `None`, 1/√D.
        dropout: Float in [0, 1), rate at which scores are dropped in
            training. Defaults to `0.0`.
        causal: Boolean, whether a query attends to no later key. Defaults to
            `False`.
        window: Integer, a query attends only to the keys less than `window`
            positions away. Defaults to `None`, all keys.
        logit_soft_cap: Float c; scaled products s become c · tanh(s / c).
            Defaults to `None`.
        use_scale: Boolean, whether the products are also multiplied by a
            learned number, 1 at first. Defaults to `False`.
        score_mode: `"dot"`, or `"concat"` for Keras' c · Σ tanh(q + k) in
            place of products, with a learned number c, 1 at first; `use_scale`
            then multiplies q + k, and `scale` has no use. The tanh of each
            pair of tokens is in memory. Defaults to `"dot"`.
        seed: Integer seed of the dropout. Defaults to `None`.
        attention_axes: Integer or tuple of integers, axes of the inputs along
            which positions attend to each other, apart from the batch's and
            the last, in one head. Along the others each position is by
            itself. Several are taken as one, the last of them the fastest.
            Defaults to `None`: inputs of four axes are of heads.
        **kwargs: The arguments of `keras.layers.Layer`.

    Call arguments:
        query: Float tensor, what attends; or the list `[query, value]` or
            `[query, value, key]`, as Keras takes it.
        value: Float tensor, what is averaged. Defaults to `None`, the query:
            self-attention.
        key: Float tensor, what the query is compared with. Defaults to
            `None`, the value.
        query_mask: Boolean tensor `(batch, T)`, `False` for masked tokens,
            which get zeros from every head. Keras passes the masks that the
            inputs carry as this, `value_mask` and `key_mask`.
        value_mask: Boolean tensor `(batch, S)`, `False` for masked tokens,
            to which no query attends.
        key_mask: As `value_mask`; a token is attended to if both allow it.
        attention_mask: Boolean tensor, `True` where a query attends to a key,
            of shape `(T, S)`, `(batch, T, S)` or `(batch, heads, T, S)`,
            where any size may be 1; with `attention_axes` it ends in the axes
            of the queries and of the keys, before which there may be the
            first axes of the scores. All masks may be of integers 0 and 1 or
            nested lists, not of floats.
        attention_bias: Float tensor that is added to the scores; shapes as
            for `attention_mask`. Where it is -inf, or below -1e29, the key is
            masked.
        cache: What `initial_cache`, or the call before, returned. The inputs
            are then the new tokens, and `attention_mask` and
            `attention_bias` are of the cache's slots. Masked tokens take a
            slot, and keep their distance to others: steps of any size equal
            one call. Pad prompts of different lengths on the left. Tokens
            beyond the last slot are an error, in a TensorFlow graph when it
            runs; what XLA compiles gives NaN for that row.
        return_attention_scores: Boolean, whether to return the scores, before
            dropout, as well. Defaults to `False`.
        training: Boolean, whether scores are dropped.
        use_causal_mask: Boolean, whether query i attends to keys up to i
            alone, counted from the first key as in Keras; `causal` of the
            layer counts from the last. Defaults to `False`.
        mask: `query_mask` by another name, for self-attention; or the list
            `[query_mask, value_mask]` for a list of inputs.

    Input shape:
        query `(batch, T, D)`, value `(batch, S, E)`, key `(batch, S, D)`, or
        with an axis of heads before the last. The key's heads may be fewer,
        if they divide the query's. Batch, T and S may be `None`. With
        `attention_axes` there may be any number of axes between the batch and
        the last, as in `(batch, height, width, channels)`; masks of the inputs
        have all axes but the last.

    Output shape:
        `(batch, T, E)` or `(batch, T, heads, E)`; scores `(batch, T, S)` or
        `(batch, heads, T, S)`. In this order: output, scores if asked for,
        cache if one was given. With `attention_axes`, the output's first axes
        are the query's, and scores are `(batch, other axes, axes of the
        queries, of the keys)`.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range, shapes that do not fit, or a
            cache of another layer or batch, or a full one.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, equation
        1.

    Example:

    >>> layer = keras_attention.ScaledDotProductAttention(causal=True)
    >>> x = np.ones((2, 5, 8), "float32")
    >>> output, scores = layer(x, return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self,
        scale: float | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        window: int | None = None,
        logit_soft_cap: float | None = None,
        use_scale: bool = False,
        score_mode: str = "dot",
        seed: int | None = None,
        attention_axes: int | tuple[int, ...] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            dropout=dropout,
            causal=causal,
            window=window,
            logit_soft_cap=logit_soft_cap,
            seed=seed,
            **kwargs,
        )
        self.scale = scale
        if scale is not None:
            check_number("scale", scale)
        self.use_scale = check_boolean("use_scale", use_scale)
        self.score_mode = check_choice("score_mode", score_mode, SCORE_MODES)
        self.attention_axes = to_axes(attention_axes)
        if score_mode == "concat" and scale is not None:
            raise ValueError(
                '`scale` is for the products of score_mode="dot". Received: '
                f'scale={scale}, score_mode="concat"'
            )

    def build(
        self,
        query_shape: Any,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> None:
        shapes = self.complete_shapes(query_shape, value_shape, key_shape)
        self._axes = self._find_axes(*shapes)
        if self._axes is not None:
            shapes = tuple(self._axes.fold_shape(shape) for shape in shapes)
        if not all(size for shape in shapes for size in shape[2:]):
            raise ValueError(
                "ScaledDotProductAttention needs defined widths and heads, "
                "at least 1. "
                f"Received: query, value and key of shapes {shapes} for layer "
                f"'{self.name}'"
            )
        if shapes[0][-1] != shapes[2][-1]:
            raise ValueError(
                "Query and key must have the same width. Received: "
                f"{shapes[0][-1]} and {shapes[2][-1]} for layer '{self.name}'"
            )
        self._rank = len(shapes[0])
        heads = shapes[2][2] if self._rank == 4 else 1
        self._cache_widths: dict[str, tuple[int, ...]] = {
            "key": (heads, shapes[2][-1]),
            "value": (heads, shapes[1][-1]),
        }
        # Named, and in the order, as in Keras.
        if self.use_scale:
            self.learned_scale = self.add_weight(
                name="scale", shape=(), initializer="ones"
            )
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(
                name="concat_score_weight", shape=(), initializer="ones"
            )

    def call(
        self,
        query: Any,
        value: Tensor | None = None,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        attention_bias: Tensor | None = None,
        cache: Cache | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        query, value, key = split_inputs(self, query, value, key)
        query_mask, value_mask, key_mask = split_masks(
            self, query_mask, value_mask, key_mask, mask
        )
        return super().call(
            query,
            value,
            key,
            query_mask=query_mask,
            value_mask=value_mask,
            key_mask=key_mask,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
            use_causal_mask=use_causal_mask,
            attention_bias=attention_bias,
            cache=cache,
        )

    def attend_inputs(
        self, inputs: AttentionInputs, return_scores: bool, training: Any
    ) -> tuple[Any, Any, Any]:
        inputs, (key, value) = self.remember(inputs)
        query = inputs.query
        if self._rank == 3:
            query = ops.expand_dims(query, 2)
        options = {}
        if self.use_scale:
            query = self._multiply(query)
        if self.score_mode == "concat":
            options["additive"] = ops.convert_to_tensor(
                self.concat_score_weight
            )
            if self.use_scale:
                key = self._multiply(key)
        output, scores, cache = self.attend(
            query,
            key,
            value,
            inputs,
            return_scores,
            training,
            **options,
        )  # [B, T, N, E], [B, N, T, S]
        if self._rank == 3:
            output = output[:, :, 0]  # [B, T, E]
            scores = None if scores is None else scores[:, 0]  # [B, T, S]
        if self._axes is not None and self._axes.rank > 3:
            output = self._axes.unfold(output, inputs.given_shapes[0])
            if scores is not None:
                scores = self._axes.unfold_scores(scores, *inputs.given_shapes)
        return output, scores, cache

    def project_keys(self, inputs: AttentionInputs) -> dict[str, Any]:
        tokens = {"key": inputs.key, "value": inputs.value}
        if self._rank == 3:
            return {name: ops.expand_dims(x, 2) for name, x in tokens.items()}
        return tokens

    def cache_widths(self) -> dict[str, tuple[int, ...]]:
        if not self.built:
            raise ValueError(
                "The cache's widths are known once the layer is built. "
                f"Received: layer '{self.name}', not built. Call "
                "`layer.build(shape)`, or the layer, first."
            )
        if self._axes is not None:
            check_is_sequence(self, self._axes)
        return self._cache_widths

    def num_query_heads(self, query_shape: Shape) -> int:
        return query_shape[2] if self._rank == 4 else 1

    def check_widths(
        self, query_shape: Shape, key_shape: Shape, value_shape: Shape
    ) -> None:
        shapes = [query_shape, key_shape, value_shape]
        if {len(shape) for shape in shapes} != {self._rank}:
            raise ValueError(
                f"Layer '{self.name}' was built for tensors of rank "
                f"{self._rank}. Received: query, key and value of shapes "
                f"{shapes}"
            )
        if self._rank == 3:
            shapes = [(*s[:2], 1, s[2]) for s in shapes]
        check_attention_shapes(*shapes)

    def scores_shape(self, query_shape: Shape, key_shape: Shape) -> Shape:
        if self._axes is not None:
            return self._axes.scores_shape(query_shape, key_shape, None)
        shape = super().scores_shape(query_shape, key_shape)
        return shape if self._rank == 4 else (shape[0], *shape[2:])

    def complete_shapes(
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> tuple[Shape, Shape, Shape]:
        return super().complete_shapes(
            *split_inputs(self, query_shape, value_shape, key_shape)
        )

    def as_sequences(self, given: CallArguments) -> CallArguments:
        if self._axes is None:
            return given
        if self._axes.rank == 3 and all(
            len(x.shape) == 3 for x in (given.query, given.value, given.key)
        ):
            return given
        return fold_arguments(self, self._axes, given, None)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if is_list_of_masks(mask) else mask

    def compute_output_shape(
        self,
        query_shape: Any,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> Shape:
        query_shape, value_shape, key_shape = self.complete_shapes(
            query_shape, value_shape, key_shape
        )
        self._find_axes(query_shape, value_shape, key_shape)
        return (*query_shape[:-1], value_shape[-1])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes a layer from a configuration: its own, or one of Keras.

        Args:
            config: Dictionary, what `get_config` returned, of this layer or of
                `keras.layers.Attention`.
        """
        if "score_mode" in config and "scale" not in config:
            is_dot = config["score_mode"] == "dot"
            of_keras = {"scale": 1.0 if is_dot else None, "attention_axes": -2}
            config = {**of_keras, **config}
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.scale,
            "use_scale": self.use_scale,
            "score_mode": self.score_mode,
            "attention_axes": self.attention_axes,
        }

    def _find_axes(self, *shapes):
        """The axes of attention of inputs of these shapes, which are checked.

        `None` without `attention_axes`: there may be an axis of heads.
        """
        if self.attention_axes is not None:
            axes = find_axes(self, shapes[0])
            check_axes(self, axes, *shapes)
            return axes
        if {len(shape) for shape in shapes} not in ({3}, {4}):
            raise ValueError(
                "ScaledDotProductAttention expects tensors of rank 3, (batch, "
                "length, width), or of rank 4, (batch, length, heads, width); "
                "or of any from 3 on with `attention_axes`. "
                f"Received: query, value and key of shapes {list(shapes)} for "
                f"layer '{self.name}'"
            )
        return None

    def _multiply(self, x):
        """Multiply by the learned scale, in at least float32."""
        wide = widen(x)
        scale = ops.cast(self.learned_scale, wide.dtype)
        return ops.cast(wide * scale, x.dtype)
