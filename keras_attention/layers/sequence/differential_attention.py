import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.call_arguments import AttentionInputs
from keras_attention.layers.sequence.head_projections import project
from keras_attention.layers.sequence.positioned_attention import (
    PositionedAttention,
)
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.precision import widen
from keras_attention.positions import BasePositions
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.validation import check_number
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class DifferentialAttention(KernelLayer, PositionedAttention):
    """Multi-head attention by the difference of two softmax maps.

        [Q1 ; Q2] = x W_q,  [K1 ; K2] = x W_k             # [B, T, N, D] each
        V = x W_v                                         # [B, S, N, 2 D]
        A = softmax(Q1 K1ᵀ / √D) - λ softmax(Q2 K2ᵀ / √D) # [B, N, T, S]
        head_n = (1 - λ_init) RMSNorm(A V)                # [B, T, N, 2 D]
        y = concatenation of the heads, projected         # [B, T, output_dim]
        λ = exp(λ_q1 · λ_k1) - exp(λ_q2 · λ_k2) + λ_init

    What both maps attend to without need cancels, as noise does in a
    differential amplifier. λ is one number for the layer, of four learned
    vectors of width D; the norm is of each head by itself, its scale shared.
    A head is twice as wide as one of multi-head attention, so as many
    parameters are those of half as many heads.

    Args:
        num_heads: Integer, number of heads N: half of what multi-head
            attention of the same width would have.
        key_dim: Integer, width D of a head's queries and keys for one map;
            its values have 2 D. Defaults to `None`, the query's width divided
            by `2 * num_heads`.
        num_kv_heads: Integer, number of heads of keys and values, each shared
            by `num_heads / num_kv_heads` heads. Defaults to `None`,
            `num_heads`.
        output_dim: Integer, width of the output. Defaults to `None`, the
            query's.
        depth: Integer, number of the layer in its model, from 1 on: λ_init is
            0.8 - 0.6 exp(-0.3 (depth - 1)). Defaults to `1`.
        lambda_init: Float in [0, 1), λ_init by itself. Defaults to `None`, by
            `depth`.
        dropout: Float in [0, 1), rate at which each map's scores are dropped
            in training. Defaults to `0.0`.
        causal: Boolean, whether a query attends to no later key. Defaults to
            `False`.
        window: Integer, a query attends only to the keys less than `window`
            positions away. Defaults to `None`, all keys.
        positions: As in `MultiHeadAttention`, the same for both maps; the
            paper's models have `"rotary"`. Defaults to `None`.
        logit_soft_cap: Float c; scaled products s become c · tanh(s / c).
            Defaults to `None`.
        epsilon: Float, added to the mean square in the heads' norm. Defaults
            to `1e-5`.
        lambda_initializer: Initializer of λ_q1, λ_k1, λ_q2 and λ_k2. Defaults
            to `None`, normal with a standard deviation of 0.1, as in the
            authors' code.
        seed: Integer seed of the dropout. Defaults to `None`.
        **kwargs: `kernel_initializer`, `kernel_regularizer`, and the
            arguments of `keras.layers.Layer`.

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
            where any size may be 1. It holds for both maps.
        attention_bias: Float tensor that is added to the scores of both maps;
            shapes as for `attention_mask`.
        cache: What `initial_cache`, `encode_memory` or the call before
            returned; see `MultiHeadAttention`.
        return_attention_scores: Boolean, whether to return A, before dropout,
            as well. Its rows sum to 1 - λ, and it may be negative. Defaults
            to `False`.
        training: Boolean, whether scores are dropped.
        use_causal_mask: Boolean, whether query i attends to keys up to i
            alone, counted from the first key as in Keras; `causal` of the
            layer counts from the last. Defaults to `False`.
        mask: `query_mask` by another name, for self-attention.
        query_positions: Integer tensor `(T,)` or `(batch, T)`, positions of
            the queries; see `MultiHeadAttention`. Defaults to `None`.
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
            cache of another layer or batch, or a full one.

    Reference:
        Ye et al., Differential Transformer, ICLR 2025, arXiv:2410.05258,
        equations 1 to 3. The scale of the norm, its epsilon and the start of
        λ are those of the authors' code, and so is the order of the columns
        of W_q and W_k, head by head and in each head map by map. Of
        `num_kv_heads` the paper says nothing; here each map has keys of its
        own.

    Example:

    >>> layer = keras_attention.DifferentialAttention(2, depth=3, causal=True)
    >>> x = np.ones((2, 5, 16), "float32")
    >>> tuple(layer(x).shape)
    (2, 5, 16)
    >>> layer.count_params()  # 4 * 16 * 16, 4 vectors of 4, a scale of 8
    1048
    >>> cache = layer.initial_cache(batch_size=2, max_length=5)
    >>> output, cache = layer(x[:, :3], cache=cache)
    >>> tuple(output.shape)
    (2, 3, 16)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int | None = None,
        num_kv_heads: int | None = None,
        output_dim: int | None = None,
        depth: int = 1,
        lambda_init: float | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        window: int | None = None,
        positions: str | BasePositions | None = None,
        logit_soft_cap: float | None = None,
        epsilon: float = 1e-5,
        lambda_initializer: InitializerLike = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            dropout=dropout,
            causal=causal,
            window=window,
            positions=positions,
            logit_soft_cap=logit_soft_cap,
            seed=seed,
            **kwargs,
        )
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_optional_integer("key_dim", key_dim)
        self.num_kv_heads = check_optional_integer("num_kv_heads", num_kv_heads)
        self.output_dim = check_optional_integer("output_dim", output_dim)
        self.depth = check_positive_integer("depth", depth)
        self.lambda_init = lambda_init
        if lambda_init is not None:
            check_number(
                "lambda_init", lambda_init, 0, 1, exclusive_maximum=True
            )
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        self.lambda_initializer = keras.initializers.get(lambda_initializer)
        self._kv_heads = self.num_kv_heads or self.num_heads
        if num_heads % self._kv_heads:
            raise ValueError(
                "`num_heads` must be a multiple of `num_kv_heads`. Received: "
                f"num_heads={num_heads}, num_kv_heads={num_kv_heads}"
            )
        if key_dim is not None and self.positions is not None:
            self.positions.check_width(key_dim)

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> None:
        query_shape, value_shape, key_shape = self.complete_shapes(
            query_shape, value_shape, key_shape
        )
        self.check_widths(query_shape, key_shape, value_shape)
        widths = query_shape[-1], key_shape[-1], value_shape[-1]
        self._widths = widths
        key_dim = self.key_dim
        if key_dim is None:
            if widths[0] % (2 * self.num_heads):
                raise ValueError(
                    "The query's width must be a multiple of twice "
                    f"`num_heads`. Received: num_heads={self.num_heads} for "
                    f"width {widths[0]} in layer '{self.name}'. Set `key_dim`."
                )
            key_dim = widths[0] // (2 * self.num_heads)
        self._key_dim = key_dim
        if self.positions is not None:
            self.positions.check_width(key_dim)
        self.build_positions(widths[0], key_dim)
        self.query_projection, self.key_projection, self.value_projection = (
            self._make_dense(f"{name}_projection", width, heads * 2 * key_dim)
            for name, width, heads in (
                ("query", widths[0], self.num_heads),
                ("key", widths[1], self._kv_heads),
                ("value", widths[2], self._kv_heads),
            )
        )
        initializer = self.lambda_initializer
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=0.1)
        self.lambda_vectors = [
            self.add_weight(
                name=f"lambda_{name}",
                shape=(key_dim,),
                initializer=clone_initializer(initializer),
                autocast=False,
            )
            for name in ("query_1", "key_1", "query_2", "key_2")
        ]
        self.head_norm = keras.layers.RMSNormalization(
            epsilon=self.epsilon,
            name="head_norm",
            dtype=self.sublayer_policy("head_norm"),
        )
        self.head_norm.build((None, None, None, 2 * key_dim))
        self.output_projection = self._make_dense(
            "output_projection",
            self.num_heads * 2 * key_dim,
            self.output_dim or widths[0],
        )

    def attend_inputs(
        self, inputs: AttentionInputs, return_scores: bool, training: Any
    ) -> tuple[Any, Any, Any]:
        # Heads are pairs of a query, and of a key, for the two maps.
        query = self._split(self.query_projection, inputs.query, 2)
        query = self.rotate_query(query, inputs)
        inputs, (key, value) = self.remember(inputs)
        position_bias = self.position_bias(inputs)
        outputs, maps = [], []
        for first in (0, 1):
            output, scores, cache = self.attend(
                query[:, :, first::2],
                key[:, :, first::2],
                value,
                inputs,
                return_scores,
                training,
                position_bias=position_bias,
            )  # [B, T, N, 2 D], [B, N, T, S]
            outputs.append(output)
            maps.append(scores)
        output = self._subtract(*outputs)
        scores = self._subtract(*maps) if return_scores else None
        output = self.head_norm(output) * (1 - self.find_lambda_init())
        batch, length, heads, width = ops.shape(output)
        output = project(
            self.output_projection,
            ops.reshape(output, (batch, length, heads * width)),
        )  # [B, T, output_dim]
        return output, scores, cache

    def project_keys(self, inputs: AttentionInputs) -> dict[str, Any]:
        key = self._split(self.key_projection, inputs.key, 2)
        value = self._split(self.value_projection, inputs.value, 1)
        return {"key": self.rotate_key(key, inputs), "value": value}

    def find_lambda_init(self) -> float:
        """λ_init: what was given, or by the layer's depth."""
        if self.lambda_init is not None:
            return self.lambda_init
        return 0.8 - 0.6 * math.exp(-0.3 * (self.depth - 1))

    def compute_lambda(self) -> Any:
        """λ, a float32 scalar; the weight of the second map."""
        query_1, key_1, query_2, key_2 = (
            ops.convert_to_tensor(vector) for vector in self.lambda_vectors
        )
        return (
            ops.exp(ops.sum(query_1 * key_1))
            - ops.exp(ops.sum(query_2 * key_2))
            + self.find_lambda_init()
        )

    def cache_widths(self) -> dict[str, tuple[int, ...]]:
        if not self.built and self.key_dim is None:
            raise ValueError(
                "Without `key_dim`, the cache's widths are known once the "
                f"layer is built. Received: layer '{self.name}', not built. "
                "Call `layer.build(shape)`, or the layer, first."
            )
        key_dim = self._key_dim if self.built else self.key_dim
        return {
            "key": (2 * self._kv_heads, key_dim),
            "value": (self._kv_heads, 2 * key_dim),
        }

    def input_widths(self) -> tuple[int, int, int]:
        return self._widths

    def num_query_heads(self, query_shape: Shape) -> int:
        return self.num_heads

    def check_widths(
        self, query_shape: Shape, key_shape: Shape, value_shape: Shape
    ) -> None:
        shapes = {"query": query_shape, "key": key_shape, "value": value_shape}
        for name, shape in shapes.items():
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    "DifferentialAttention expects tensors of shape (batch, "
                    "length, width) with a defined width. Received: "
                    f"{name} of shape {tuple(shape)} for layer '{self.name}'"
                )
        widths = tuple(shape[-1] for shape in shapes.values())
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
        query_shape, _, _ = self.complete_shapes(
            query_shape, value_shape, key_shape
        )
        return (*query_shape[:-1], self.output_dim or query_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "num_kv_heads": self.num_kv_heads,
            "output_dim": self.output_dim,
            "depth": self.depth,
            "lambda_init": self.lambda_init,
            "epsilon": self.epsilon,
            "lambda_initializer": keras.initializers.serialize(
                self.lambda_initializer
            ),
        }

    def _subtract(self, first, second):
        """First minus λ times second, in at least float32."""
        dtype, first, second = first.dtype, widen(first), widen(second)
        factor = ops.cast(self.compute_lambda(), first.dtype)
        return ops.cast(first - factor * second, dtype)

    def _split(self, dense, x, parts):
        """Project tokens `(B, T, W)` to heads of width `2 D / parts`."""
        width = 2 * self._key_dim // parts
        # Not the shape of the dense layer's output, which tf2onnx loses.
        batch, length, _ = ops.shape(x)
        return ops.reshape(
            project(dense, x), (batch, length, dense.units // width, width)
        )

    def _make_dense(self, name, width, units):
        layer = keras.layers.Dense(
            units, use_bias=False, **self.sublayer_arguments(name)
        )
        layer.build((None, None, width))
        return layer
