from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.positioned_attention import (
    PositionedAttention,
)
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.dot_product import matmul
from keras_attention.positions import BasePositions
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class MultiHeadAttention(WeightedLayer, PositionedAttention):
    """Multi-head attention: several attentions between learned projections.

        Q, K, V = split of x W + b, by head               # [B, T, N, D] each
        head_n = softmax(Q_n K_nᵀ / √D) V_n               # [B, T, E]
        y = concatenation of the heads, projected         # [B, T, output_dim]

    With one input it is self-attention, so it fits into a `Sequential` model.
    Sequences beyond about a thousand tokens are attended in chunks of
    queries: exactly, in memory that grows linearly with the length, and with
    a `window` in linear time too. A query without keys, or that is masked,
    gets zeros from every head. Masked tokens may hold anything, NaN included.
    Asking for the scores does not change the output, and neither does dropout
    outside training.

    If query, key and value have one width, the three projections are the
    columns of one kernel: self-attention multiplies by it once, and attention
    to another sequence by its columns. If the widths differ there are three
    kernels. Each projection is initialized by itself.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of a head's queries and keys. Defaults to
            `None`, the query's width divided by `num_heads`.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            `key_dim`.
        num_kv_heads: Integer, number of heads of keys and values, each shared
            by `num_heads / num_kv_heads` heads; 1 is multi-query attention.
            Defaults to `None`, `num_heads`.
        output_dim: Integer, width of the output. Defaults to `None`, the
            query's.
        dropout: Float in [0, 1), rate at which scores are dropped in
            training. Defaults to `0.0`.
        use_bias: Boolean, whether the projections have biases. Defaults to
            `True`.
        causal: Boolean, whether a query attends to no later key. Defaults to
            `False`.
        window: Integer, a query attends only to the keys less than `window`
            positions away. Defaults to `None`, all keys.
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
        seed: Integer seed of the dropout. Defaults to `None`.
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
            runs; what XLA compiles gives NaN for that row.
        return_attention_scores: Boolean, whether to return the scores, before
            dropout, as well. Defaults to `False`.
        training: Boolean, whether scores are dropped.
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
        and S may be `None`.

    Output shape:
        `(batch, T, output_dim)`; scores `(batch, num_heads, T, S)`. In this
        order: output, scores if asked for, cache if one was given.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range, shapes that do not fit, or a
            cache of another layer or batch or without room.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section
        3.2. Grouped heads: Ainslie et al., arXiv:2305.13245. Rotary: Su et
        al., arXiv:2104.09864. ALiBi: Press et al., arXiv:2108.12409. Relative
        buckets: Raffel et al., arXiv:1910.10683. Normalized queries and keys:
        Dehghani et al., arXiv:2302.05442, section 2, there with a layer norm.
        Sinks: gpt-oss, arXiv:2508.10925.

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
        num_kv_heads: int | None = None,
        output_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        causal: bool = False,
        window: int | None = None,
        positions: str | BasePositions | None = None,
        qk_norm: bool = False,
        logit_soft_cap: float | None = None,
        use_sinks: bool = False,
        seed: int | None = None,
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
        for name, value in (
            ("key_dim", key_dim),
            ("value_dim", value_dim),
            ("num_kv_heads", num_kv_heads),
            ("output_dim", output_dim),
        ):
            if value is not None:
                check_positive_integer(name, value)
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.num_kv_heads = num_kv_heads
        self.output_dim = output_dim
        self.use_bias = check_boolean("use_bias", use_bias)
        self.qk_norm = check_boolean("qk_norm", qk_norm)
        self.use_sinks = check_boolean("use_sinks", use_sinks)
        self._kv_heads = num_kv_heads or num_heads
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
        self.check_one_tensor("query", query_shape)
        value_shape = query_shape if value_shape is None else value_shape
        key_shape = value_shape if key_shape is None else key_shape
        widths = self._input_widths(query_shape, key_shape, value_shape)
        self._widths = widths
        self._head_dims = self._find_head_dims(widths[0])
        key_dim, value_dim = self._head_dims
        self._columns = (
            self.num_heads * key_dim,
            self._kv_heads * key_dim,
            self._kv_heads * value_dim,
        )
        self._is_fused = len(set(widths)) == 1
        if self._is_fused:
            parts = [("query_key_value", widths[0], self._columns)]
        else:
            parts = [
                (name, width, (columns,))
                for name, width, columns in zip(
                    ("query", "key", "value"),
                    widths,
                    self._columns,
                    strict=True,
                )
            ]
        self._projections = [self._add_projection(*part) for part in parts]
        if self.qk_norm:
            self.query_norm = self._add_norm("query_norm", key_dim)
            self.key_norm = self._add_norm("key_norm", key_dim)
        self.build_positions(widths[0], key_dim)
        if self.use_sinks:
            self.sinks = self.add_weight(
                name="sinks", shape=(self.num_heads,), initializer="zeros"
            )
        self._output_projection = self._add_projection(
            "output",
            self.num_heads * value_dim,
            (self.output_dim or widths[0],),
        )

    def call(
        self,
        query: Tensor,
        value: Tensor | None = None,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_bias: Tensor | None = None,
        cache: Cache | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        mask: Tensor | None = None,
        query_positions: Tensor | None = None,
        key_positions: Tensor | None = None,
    ) -> Any:
        inputs = self.prepare(
            query,
            value,
            key,
            query_mask if mask is None else mask,
            value_mask,
            key_mask,
            attention_mask,
            attention_bias,
            cache,
            given_positions=(query_positions, key_positions),
        )
        query, key, value = self.project_inputs(inputs)
        # [B, T, N, D], [B, S, K, D], [B, S, K, E]
        query, key = self._position(query, key, inputs)
        inputs, (key, value) = self.remember(inputs, key=key, value=value)
        output, scores, cache = self.attend(
            query,
            key,
            value,
            inputs,
            return_attention_scores,
            training,
            position_bias=self.position_bias(inputs),
            sinks=self._sinks(),
        )  # [B, T, N, E], [B, N, T, S]
        output = self.project_output(output)  # [B, T, output_dim]
        return self.collect(output, scores, cache)

    def cache_widths(self) -> dict[str, tuple[int, ...]]:
        if not self.built and self.key_dim is None:
            raise ValueError(
                "Without `key_dim`, the cache's widths are known once the "
                f"layer is built. Received: layer '{self.name}', not built. "
                "Call `layer.build(shape)`, or the layer, first."
            )
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
        return (*query_shape[:-1], self.output_dim or query_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "num_kv_heads": self.num_kv_heads,
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "qk_norm": self.qk_norm,
            "use_sinks": self.use_sinks,
        }

    def project_inputs(self, inputs: Tensor) -> Any:
        """Queries, keys and values of the heads.

        One product for each run of equal inputs, if the kernel is one.
        """
        tensors, products = (inputs.query, inputs.key, inputs.value), []
        while (first := len(products)) < 3:
            stop = first + 1
            while (
                self._is_fused and stop < 3 and tensors[stop] is tensors[first]
            ):
                stop += 1
            products += self._multiply(tensors[first], first, stop)
        key_dim, value_dim = self._head_dims
        return [
            ops.reshape(product, (*ops.shape(product)[:2], heads, width))
            for product, heads, width in zip(
                products,
                (self.num_heads, self._kv_heads, self._kv_heads),
                (key_dim, key_dim, value_dim),
                strict=True,
            )
        ]

    def _position(self, query, key, inputs):
        """Normalize and rotate queries and keys, if the layer does so."""
        if self.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return self.rotate(query, key, inputs)

    def _sinks(self):
        """`(1, N, 1, 1)`; `None` for none."""
        if not self.use_sinks:
            return None
        return ops.reshape(self.sinks, (1, self.num_heads, 1, 1))

    def project_output(self, output: Tensor) -> Tensor:
        """`(B, T, N, E)` to `(B, T, output_dim)`."""
        batch, length, heads, width = ops.shape(output)
        joined = ops.reshape(output, (batch, length, heads * width))
        return _project(joined, *self._output_projection)

    def _multiply(self, x, first, stop):
        """Projections number `first` to `stop` of query, key and value."""
        if self._is_fused:
            kernel, bias = self._projections[0]
            if stop - first < 3:
                start = sum(self._columns[:first])
                columns = slice(start, sum(self._columns[:stop]))
                kernel = kernel[:, columns]
                bias = None if bias is None else bias[columns]
        else:
            kernel, bias = self._projections[first]
        product = _project(x, kernel, bias)
        ends = [sum(self._columns[first:n]) for n in range(first + 1, stop)]
        return ops.split(product, ends, axis=-1) if ends else [product]

    def _add_projection(self, name, width, columns):
        def each(initializer, *lead):
            # The widths of one projection, not of all, scale its values.
            parts = [clone_initializer(initializer) for _ in columns]

            def initialize(shape, dtype=None):
                return ops.concatenate(
                    [
                        part((*lead, size), dtype=dtype)
                        for part, size in zip(parts, columns, strict=True)
                    ],
                    axis=-1,
                )

            return initialize

        kernel = self.add_weight(
            name=f"{name}_kernel",
            shape=(width, sum(columns)),
            initializer=each(self.kernel_initializer, width),
            regularizer=self.kernel_regularizer,
        )
        if not self.use_bias:
            return kernel, None
        bias = self.add_weight(
            name=f"{name}_bias",
            shape=(sum(columns),),
            initializer=each(self.bias_initializer),
            regularizer=self.bias_regularizer,
        )
        return kernel, bias

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
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    "MultiHeadAttention expects tensors of shape (batch, "
                    "length, width) with a defined width. Received: "
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


def _project(x, kernel, bias):
    product = matmul(x, kernel)
    return product if bias is None else product + bias
