from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.attention_axes import check_axes
from keras_attention.layers.sequence.attention_axes import check_is_sequence
from keras_attention.layers.sequence.attention_axes import check_key_sizes
from keras_attention.layers.sequence.attention_axes import find_axes
from keras_attention.layers.sequence.attention_axes import fold_arguments
from keras_attention.layers.sequence.attention_axes import to_axes
from keras_attention.layers.sequence.call_arguments import AttentionInputs
from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.layers.sequence.head_projections import dense_from_heads
from keras_attention.layers.sequence.head_projections import dense_to_heads
from keras_attention.layers.sequence.head_projections import project
from keras_attention.layers.sequence.positioned_attention import (
    PositionedAttention,
)
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.positions import BasePositions
from keras_attention.types import RegularizerLike
from keras_attention.types import Shape
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer

# What `keras.layers.GroupQueryAttention` calls its arguments.
KERAS_NAMES = {
    "num_query_heads": "num_heads",
    "head_dim": "key_dim",
    "num_key_value_heads": "num_kv_heads",
}


@keras.saving.register_keras_serializable(package="keras_attention")
class MultiHeadAttention(WeightedLayer, PositionedAttention):
    """Multi-head attention: several attentions between learned projections.

        Q, K, V = split of x W + b, by head               # [B, T, N, D] each
        head_n = softmax(Q_n K_nᵀ / √D) V_n               # [B, T, E]
        y = concatenation of the heads, projected         # [B, T, output_shape]

    With one input it is self-attention, so it fits into a `Sequential` model.
    Sequences beyond about a thousand tokens are attended in chunks of
    queries: exactly, in memory that grows linearly with the length, and with
    a `window` in linear time too. A query without keys, or that is masked,
    gets zeros from every head. Masked tokens may hold anything, NaN included.
    Asking for the scores does not change the output, and neither does dropout
    outside training.

    The layer takes the place of `keras.layers.MultiHeadAttention`: arguments
    of that name mean the same here, its weights are the same and in the same
    order, and its configuration is read by `from_config`. So is that of
    `keras.layers.GroupQueryAttention`, which has other names: `head_dim` for
    `key_dim`, `num_query_heads` for `num_heads`, and `num_key_value_heads`
    for `num_kv_heads`. The projections are
    sublayers, `query_dense`, `key_dense`, `value_dense`, `gate_dense` and
    `output_dense`, which can be quantized or given a LoRA adapter.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of a head's queries and keys. Defaults to
            `None`, the query's width divided by `num_heads`.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            `key_dim`.
        dropout: Float in [0, 1), rate at which scores are dropped in
            training. Defaults to `0.0`.
        use_bias: Boolean, whether the projections have biases. Defaults to
            `True`.
        output_shape: Integer or tuple of integers, the features of a token of
            the output. Defaults to `None`, the query's width.
        attention_axes: Integer or tuple of integers, axes of the inputs along
            which positions attend to each other, apart from the batch's and
            the last. Along the others each position is by itself. Several are
            taken as one, the last of them the fastest; `causal`, `window` and
            `positions` go by that order. Defaults to `None`, all.
        num_kv_heads: Integer, number of heads of keys and values, each shared
            by `num_heads / num_kv_heads` heads; 1 is multi-query attention.
            Defaults to `None`, `num_heads`.
        use_gate: Boolean, whether each head's output is multiplied by a gate,
            the sigmoid of a projection of the query, for each feature.
            Defaults to `False`.
        causal: Boolean, whether a query attends to no later key. Defaults to
            `False`.
        window: Integer, a query attends only to the keys less than `window`
            positions away. Defaults to `None`, all keys.
        sliding_window: Integer, as `window`, but where queries and keys
            differ in number, the first query is at the first key instead of
            the last at the last. Defaults to `None`, all keys.
        positions: `"rotary"` rotates queries and keys by their positions;
            `"alibi"` subtracts from each score a multiple of the distance,
            a different one for each head; `"relative"` adds a learned number
            for each head and bucket of distances, as T5 does. An object of
            `keras_attention.positions` sets their options, such as
            `Rotary(layout="half")` for the weights of Llama. Defaults to
            `None`: the order of the tokens is left to the inputs.
        qk_norm: Boolean, whether queries and keys are RMS-normalized in each
            head, with a learned scale, before they are rotated. Defaults to
            `False`.
        logit_soft_cap: Float c; scaled products s become c · tanh(s / c).
            Defaults to `None`.
        use_sinks: Boolean, whether each head has a sink, a learned logit that
            is added to the softmax's denominator, so that a head can attend
            to nothing. Defaults to `False`.
        talking_heads: Boolean, whether the heads' products are multiplied by
            a learned matrix from heads to heads before the softmax, and their
            scores by another one after it. Masks and biases by head are of
            the heads in between. Defaults to `False`.
        num_sink_tokens: Integer, number of first tokens, masked ones not
            counted, that every query attends to besides its `window`, as
            StreamingLLM does. With rotary positions they stay at the far end
            of the window: their distance does not grow beyond it. Defaults to
            `0`.
        flash_attention: Boolean. `True` requires a fused kernel of the
            backend, which never holds the scores: a call for which there is
            none, as on TensorFlow or where scores are asked for, is an error
            that says why. `False` takes none. Outputs are the same. Defaults
            to `None`, one where it is possible and not turned off by
            `keras.config.disable_flash_attention()`.
        seed: Integer seed of the dropout. Defaults to `None`.
        kernel_constraint: Constraint of the kernels. Defaults to `None`.
        bias_constraint: Constraint of the biases. Defaults to `None`.
        activity_regularizer: Regularizer of the outputs of the projections,
            each by itself. Defaults to `None`.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        query: Float tensor, what attends.
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
            where any size may be 1. All masks may be of integers 0 and 1 or
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
            runs; what XLA compiles gives NaN for that row. Or what
            `encode_memory` returned, keys and values of another sequence, to
            which the query attends.
        return_attention_scores: Boolean, whether to return the scores, before
            dropout, as well. Defaults to `False`.
        training: Boolean, whether scores are dropped.
        use_causal_mask: Boolean, whether query i attends to keys up to i
            alone, counted from the first key as in Keras; `causal` of the
            layer counts from the last. Defaults to `False`.
        mask: `query_mask` by another name, for self-attention.
        query_positions: Integer tensor `(T,)` or `(batch, T)`, the queries'
            positions for `positions`, such as those of several texts in one
            row. `causal` and `window` count tokens all the same. With a
            cache, of the new tokens; rotary positions only. Defaults to
            `None`, the places of the tokens.
        key_positions: Integer tensor `(S,)` or `(batch, S)`, likewise of the
            keys. Defaults to `None`, for self-attention `query_positions`.

    Input shape:
        query `(batch, T, width)`, value and key `(batch, S, width)`. Batch, T
        and S may be `None`. There may be further axes: `(batch, height, width,
        channels)`, for example, of which `attention_axes` are attended along;
        masks of the inputs have all axes but the last.

    Output shape:
        `(batch, T, *output_shape)`; scores `(batch, num_heads, T, S)`. In
        this order: output, scores if asked for, cache if one was given. With
        further axes, the output's first are the query's, and scores are
        `(batch, other axes, num_heads, axes of the queries, of the keys)`.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range, shapes that do not fit, or a
            cache of another layer or batch, or a full one.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section
        3.2. Grouped heads: Ainslie et al., arXiv:2305.13245. Rotary: Su et
        al., arXiv:2104.09864. ALiBi: Press et al., arXiv:2108.12409. Relative
        buckets: Raffel et al., arXiv:1910.10683. Normalized queries and keys:
        Dehghani et al., arXiv:2302.05442, section 2, there with a layer norm.
        Sinks: gpt-oss, arXiv:2508.10925. Kept first tokens: Xiao
        et al., arXiv:2309.17453, section 3.2. Talking heads: Shazeer et al.,
        arXiv:2003.02436, section 3, with as many heads throughout. Gate: Qiu
        et al., arXiv:2505.06708, section 2.2, of the query's token, after the
        attention, for each feature.

    Example:

    >>> layer = keras_attention.MultiHeadAttention(4, causal=True)
    >>> x = np.ones((2, 5, 16), "float32")
    >>> tuple(layer(x).shape)
    (2, 5, 16)
    >>> layer.count_params()  # 4 * (16 * 16 + 16)
    1088
    >>> cache = layer.initial_cache(batch_size=2, max_length=5)
    >>> output, cache = layer(x[:, :3], cache=cache)
    >>> output, cache = layer(x[:, 3:4], cache=cache)
    >>> tuple(output.shape)
    (2, 1, 16)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        *,
        output_shape: int | Shape | None = None,
        attention_axes: int | tuple[int, ...] | None = None,
        num_kv_heads: int | None = None,
        use_gate: bool = False,
        causal: bool = False,
        window: int | None = None,
        sliding_window: int | None = None,
        positions: str | BasePositions | None = None,
        qk_norm: bool = False,
        logit_soft_cap: float | None = None,
        use_sinks: bool = False,
        talking_heads: bool = False,
        num_sink_tokens: int = 0,
        flash_attention: bool | None = None,
        seed: int | None = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        activity_regularizer: RegularizerLike = None,
        **kwargs: Any,
    ):
        super().__init__(
            dropout=dropout,
            causal=causal,
            window=window,
            logit_soft_cap=logit_soft_cap,
            positions=positions,
            seed=seed,
            **kwargs,
        )
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_optional_integer("key_dim", key_dim)
        self.value_dim = check_optional_integer("value_dim", value_dim)
        self.num_kv_heads = check_optional_integer("num_kv_heads", num_kv_heads)
        self.sliding_window = check_optional_integer(
            "sliding_window", sliding_window
        )
        self.attention_axes = to_axes(attention_axes)
        # An attribute `output_shape` would be taken for the shape of a tensor.
        self._output_shape = _to_output_shape(output_shape)
        self.use_bias = check_boolean("use_bias", use_bias)
        self.use_gate = check_boolean("use_gate", use_gate)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        # Keras' layer regularizes the projections, of which the output is one.
        self.projection_regularizer = keras.regularizers.get(
            activity_regularizer
        )
        self.qk_norm = check_boolean("qk_norm", qk_norm)
        self.use_sinks = check_boolean("use_sinks", use_sinks)
        self.talking_heads = check_boolean("talking_heads", talking_heads)
        self.num_sink_tokens = check_positive_integer(
            "num_sink_tokens", num_sink_tokens, 0
        )
        self._check_sink_tokens()
        self.flash_attention = _to_flash_attention(flash_attention, dropout)
        self._kv_heads = self.num_kv_heads or self.num_heads
        if num_heads % self._kv_heads:
            raise ValueError(
                "`num_heads` must be a multiple of `num_kv_heads`. Received: "
                f"num_heads={num_heads}, num_kv_heads={num_kv_heads}"
            )
        if key_dim is not None:
            self._check_key_dim(key_dim)

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> None:
        query_shape, value_shape, key_shape = self.complete_shapes(
            query_shape, value_shape, key_shape
        )
        self._axes = find_axes(self, query_shape)
        check_axes(self, self._axes, query_shape, value_shape, key_shape)
        query_shape, value_shape, key_shape = (
            self._axes.fold_shape(shape)
            for shape in (query_shape, value_shape, key_shape)
        )
        widths = self._input_widths(query_shape, key_shape, value_shape)
        self._widths = widths
        self._head_dims = self._find_head_dims(widths[0])
        key_dim, value_dim = self._head_dims
        self._query_dense = self._add_dense(
            "query", self.num_heads, key_dim, query_shape
        )
        self._key_dense = self._add_dense(
            "key", self._kv_heads, key_dim, key_shape
        )
        if self.use_gate:
            self._gate_dense = self._add_dense(
                "gate",
                self.num_heads,
                value_dim,
                query_shape,
                activation="sigmoid",
            )
        self._value_dense = self._add_dense(
            "value", self._kv_heads, value_dim, value_shape
        )
        if self.qk_norm:
            self.query_norm = self._add_norm("query_norm", key_dim)
            self.key_norm = self._add_norm("key_norm", key_dim)
        self.build_positions(widths[0], key_dim)
        if self.use_sinks:
            self.sinks = self.add_weight(
                name="sinks", shape=(self.num_heads,), initializer="zeros"
            )
        if self.talking_heads:
            self.head_mixing = [
                self.add_weight(
                    name=f"{name}_mixing_kernel",
                    shape=(self.num_heads, self.num_heads),
                    initializer=clone_initializer(self.kernel_initializer),
                    regularizer=self.kernel_regularizer,
                    constraint=self.kernel_constraint,
                )
                for name in ("product", "score")
            ]
        self._output_dense = dense_from_heads(
            self._output_shape or widths[:1],
            self.use_bias,
            **self._dense_arguments("attention_output"),
        )
        self._output_dense.build((None, None, self.num_heads, value_dim))

    @property
    def query_dense(self) -> keras.layers.EinsumDense:
        """Projection of the queries."""
        return self._query_dense

    @property
    def key_dense(self) -> keras.layers.EinsumDense:
        """Projection of the keys."""
        return self._key_dense

    @property
    def value_dense(self) -> keras.layers.EinsumDense:
        """Projection of the values."""
        return self._value_dense

    @property
    def gate_dense(self) -> keras.layers.EinsumDense:
        """Projection of the gate, with `use_gate=True`."""
        return self._gate_dense

    @property
    def output_dense(self) -> keras.layers.EinsumDense:
        """Projection of the output."""
        return self._output_dense

    def __dir__(self) -> list[str]:
        # Files name sublayers by their attributes, public ones first, and
        # Keras' layer has a `_gate_dense` alone.
        return [name for name in super().__dir__() if name != "gate_dense"]

    def attend_inputs(
        self, inputs: AttentionInputs, return_scores: bool, training: Any
    ) -> tuple[Any, Any, Any]:
        query = project(self._query_dense, inputs.query)  # [B, T, N, D]
        if self.qk_norm:
            query = self.query_norm(query)
        rotated = self.rotate_query(query, inputs)
        inputs, (key, value) = self.remember(inputs)
        if self.num_sink_tokens and self.positions is not None:
            rotated, key = self.rotate_to_sinks(rotated, query, key, inputs)
        output, scores, cache = self.attend(
            rotated,
            key,
            value,
            inputs,
            return_scores,
            training,
            position_bias=self.position_bias(inputs),
            sinks=self._sinks(),
            head_mixing=self.head_mixing if self.talking_heads else None,
        )  # [B, T, N, E], [B, N, T, S]
        if self.use_gate:
            output = output * project(self._gate_dense, inputs.query)
        output = project(self._output_dense, output)  # [B, T, output_shape]
        if self._axes.rank > 3:
            output = self._axes.unfold(output, inputs.given_shapes[0])
            if scores is not None:
                scores = self._axes.unfold_scores(scores, *inputs.given_shapes)
        return output, scores, cache

    def project_keys(self, inputs: AttentionInputs) -> dict[str, Any]:
        key = project(self._key_dense, inputs.key)  # [B, S, K, D]
        if self.qk_norm:
            key = self.key_norm(key)
        return {
            "key": self.rotate_key(key, inputs),
            "value": project(self._value_dense, inputs.value),
        }

    def input_widths(self) -> tuple[int, int, int]:
        return self._widths

    def cache_widths(self) -> dict[str, tuple[int, ...]]:
        if not self.built and self.key_dim is None:
            raise ValueError(
                "Without `key_dim`, the cache's widths are known once the "
                f"layer is built. Received: layer '{self.name}', not built. "
                "Call `layer.build(shape)`, or the layer, first."
            )
        if self.built:
            check_is_sequence(self, self._axes)
        key_dim, value_dim = self._find_head_dims(None)
        return {
            "key": (self._kv_heads, key_dim),
            "value": (self._kv_heads, value_dim),
        }

    def num_query_heads(self, query_shape: Shape) -> int:
        return self.num_heads

    def check_widths(
        self, query_shape: Shape, key_shape: Shape, value_shape: Shape
    ) -> None:
        widths = self._input_widths(query_shape, key_shape, value_shape)
        if self.built and widths != self._widths:
            raise ValueError(
                "Query, key and value must have the widths for which the "
                f"layer was built, {self._widths}. Received: input of "
                f"incompatible widths {widths} for layer '{self.name}'"
            )

    def compute_output_shape(
        self,
        query_shape: Shape,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> Shape:
        query_shape, value_shape, key_shape = self.complete_shapes(
            query_shape, value_shape, key_shape
        )
        check_key_sizes(self, value_shape, key_shape)
        return (*query_shape[:-1], *(self._output_shape or query_shape[-1:]))

    def scores_shape(self, query_shape: Shape, key_shape: Shape) -> tuple:
        axes = find_axes(self, query_shape)
        return axes.scores_shape(query_shape, key_shape, self.num_heads)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiHeadAttention":
        """Makes a layer from a configuration: its own, or one of Keras.

        Args:
            config: Dictionary, what `get_config` returned, of this layer, of
                `keras.layers.MultiHeadAttention` or of
                `keras.layers.GroupQueryAttention`.
        """
        return super().from_config(
            {KERAS_NAMES.get(name, name): v for name, v in config.items()}
        )

    def as_sequences(self, given: CallArguments) -> CallArguments:
        query, value, key = given.query, given.value, given.key
        axes = self._axes if self.built else find_axes(self, query.shape)
        if axes.rank == 3 and all(
            len(x.shape) == 3 for x in (query, value, key)
        ):
            return given
        return fold_arguments(self, axes, given, self.num_heads)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "num_kv_heads": self.num_kv_heads,
            "output_shape": self._output_shape,
            "use_bias": self.use_bias,
            "use_gate": self.use_gate,
            "attention_axes": self.attention_axes,
            "sliding_window": self.sliding_window,
            "kernel_constraint": keras.constraints.serialize(
                self.kernel_constraint
            ),
            "bias_constraint": keras.constraints.serialize(
                self.bias_constraint
            ),
            "activity_regularizer": keras.regularizers.serialize(
                self.projection_regularizer
            ),
            "qk_norm": self.qk_norm,
            "use_sinks": self.use_sinks,
            "talking_heads": self.talking_heads,
            "num_sink_tokens": self.num_sink_tokens,
            "flash_attention": self.flash_attention,
        }

    def _check_sink_tokens(self):
        if not self.num_sink_tokens:
            return
        if self.window is None or self.sliding_window is not None:
            raise ValueError(
                "`num_sink_tokens` are kept besides a `window`, and do not go "
                "with `sliding_window`. Received: num_sink_tokens="
                f"{self.num_sink_tokens}, window={self.window}, "
                f"sliding_window={self.sliding_window}"
            )
        if self.positions is not None and self.positions.uses_distances:
            raise ValueError(
                "`num_sink_tokens` goes with rotary positions, or with none. "
                f"Received: num_sink_tokens={self.num_sink_tokens}, positions="
                f"{self.positions}"
            )

    def _sinks(self):
        """`(1, N, 1, 1)`; `None` for none."""
        if not self.use_sinks:
            return None
        return ops.reshape(self.sinks, (1, self.num_heads, 1, 1))

    def _dense_arguments(self, name):
        return self.sublayer_arguments(
            name,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            activity_regularizer=self.projection_regularizer,
        )

    def _add_dense(self, name, heads, width, shape, **arguments):
        dense = dense_to_heads(
            heads,
            width,
            self.use_bias,
            **self._dense_arguments(name),
            **arguments,
        )
        dense.build(shape)
        return dense

    def _add_norm(self, name, width):
        norm = keras.layers.RMSNormalization(
            epsilon=1e-6, name=name, dtype=self.dtype_policy
        )
        norm.build((None, None, None, width))
        return norm

    def _input_widths(self, query_shape, key_shape, value_shape):
        for name, shape in (
            ("query", query_shape),
            ("value", value_shape),
            ("key", key_shape),
        ):
            if len(shape) != 3 or not shape[-1]:
                raise ValueError(
                    "MultiHeadAttention expects tensors of shape (batch, "
                    "length, width) with a defined width, not 0. Received: "
                    f"{name} of shape {tuple(shape)} for layer '{self.name}'"
                )
        return query_shape[-1], key_shape[-1], value_shape[-1]

    def _find_head_dims(self, width):
        if self.built or self.key_dim is None and width is None:
            return self._head_dims
        key_dim = self.key_dim
        if key_dim is None:
            if width % self.num_heads:
                raise ValueError(
                    "The query's width must be a multiple of `num_heads`. "
                    f"Received: num_heads={self.num_heads} for width {width} "
                    f"in layer '{self.name}'. Set `key_dim`."
                )
            key_dim = width // self.num_heads
            self._check_key_dim(key_dim)
        return key_dim, self.value_dim or key_dim

    def _check_key_dim(self, key_dim):
        if self.positions is not None:
            self.positions.check_width(key_dim)


def _to_flash_attention(flash_attention, dropout):
    if flash_attention is None:
        return None
    check_boolean("flash_attention", flash_attention)
    if flash_attention and dropout:
        raise ValueError(
            "No fused kernel drops scores. Received: flash_attention=True, "
            f"dropout={dropout}. Leave `flash_attention` out: a kernel is then "
            "taken outside of training."
        )
    return flash_attention


def _to_output_shape(output_shape):
    if output_shape is None:
        return None
    is_sequence = isinstance(output_shape, list | tuple) and output_shape
    sizes = output_shape if is_sequence else [output_shape]
    return tuple(check_positive_integer("output_shape", n) for n in sizes)
