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
from keras_attention.ops.attention.dot_product import matmul
from keras_attention.positions import Rotary
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_number
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class MultiHeadLatentAttention(KernelLayer, PositionedAttention):
    """Multi-head attention whose keys and values are made of one latent.

        c = norm(x W_dkv),  r = rotary(x W_kr)            # [B, S, L], [B, S, R]
        c' = norm(x W_dq)                                 # [B, T, L']
        Q_n = [c' W_uq ; rotary(c' W_qr)]                 # [B, T, D + R]
        K_n = [c W_uk ; r],  V_n = c W_uv                 # [B, S, D + R], E
        head_n = softmax(Q_n K_nᵀ / √(D + R)) V_n         # [B, T, E]
        y = concatenation of the heads, projected         # [B, T, output_dim]

    A cache holds only c and r, L + R numbers a token for all N heads, where
    multi-head attention holds 2 N D. The rotary part r is shared by the
    heads; it is apart since a rotated key could not be made of the latent.

    Two forms give the same result. The plain one makes the keys and values of
    every head. The absorbed one multiplies the queries by W_uk and the output
    by W_uv instead, and attends to the latents themselves. The layer takes
    the plain form without a cache; with one, whichever multiplies less: the
    absorbed one for a few new tokens, the plain one for a long prompt.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of the part of a head's queries and keys
            that is not rotated. Defaults to `None`, the query's width divided
            by `num_heads`.
        rotary_dim: Integer, width R of the part that is rotated. Defaults to
            `None`, half of `key_dim`, as in the paper, or the even number
            below.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            `key_dim`.
        latent_dim: Integer, width L of the latent of keys and values.
            Defaults to `None`, four times `key_dim`, as in the paper.
        query_latent_dim: Integer, width L' of the queries' latent, 12 times
            `key_dim` in DeepSeek-V2. Defaults to `None`, queries that are
            projected at once, as in DeepSeek-V2-Lite.
        output_dim: Integer, width of the output. Defaults to `None`, the
            query's.
        dropout: Float in [0, 1), rate at which scores are dropped in
            training. Defaults to `0.0`.
        causal: Boolean, whether a query attends to no later key. Defaults to
            `False`.
        window: Integer, a query attends only to the keys less than `window`
            positions away. Defaults to `None`, all keys.
        positions: `"rotary"`, or a `keras_attention.positions.Rotary` with
            other options. Defaults to `"rotary"`.
        logit_soft_cap: Float c; scaled products s become c · tanh(s / c).
            Defaults to `None`.
        epsilon: Float, added to the mean square in the norms of the latents.
            Defaults to `1e-6`.
        seed: Integer seed of the dropout. Defaults to `None`.
        **kwargs: `kernel_initializer`, `kernel_regularizer`, and the
            arguments of `keras.layers.Layer`.

    Call arguments:
        query: Float tensor, what attends.
        value: Float tensor, of which keys and values are made. Defaults to
            `None`, the query: self-attention.
        query_mask: Boolean tensor `(batch, T)`, `False` for masked tokens,
            which get zeros from every head. Keras passes the masks that the
            inputs carry as this and `value_mask`.
        value_mask: Boolean tensor `(batch, S)`, `False` for masked tokens,
            to which no query attends.
        attention_mask: Boolean tensor, `True` where a query attends to a key,
            of shape `(T, S)`, `(batch, T, S)` or `(batch, heads, T, S)`,
            where any size may be 1.
        attention_bias: Float tensor that is added to the scores; shapes as
            for `attention_mask`.
        cache: What `initial_cache`, `encode_memory` or the call before
            returned; see `MultiHeadAttention`.
        return_attention_scores: Boolean, whether to return the scores, before
            dropout, as well. Defaults to `False`.
        training: Boolean, whether scores are dropped.
        use_causal_mask: Boolean, whether query i attends to keys up to i
            alone, counted from the first key as in Keras; `causal` of the
            layer counts from the last. Defaults to `False`.
        mask: `query_mask` by another name, for self-attention.
        query_positions: Integer tensor `(T,)` or `(batch, T)`, positions of
            the queries, with a cache of the new tokens. Defaults to `None`,
            the places of the tokens.
        key_positions: Integer tensor `(S,)` or `(batch, S)`, likewise of the
            keys. Defaults to `None`, for self-attention `query_positions`.

    Input shape:
        query `(batch, T, width)`, value `(batch, S, width)`. Batch, T and S
        may be `None`.

    Output shape:
        `(batch, T, output_dim)`; scores `(batch, num_heads, T, S)`. In this
        order: output, scores if asked for, cache if one was given.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range, positions other than rotary
            ones, shapes that do not fit, or a cache of another layer or batch
            or a full one.

    Reference:
        DeepSeek-AI, DeepSeek-V2: A Strong, Economical, and Efficient
        Mixture-of-Experts Language Model, 2024, arXiv:2405.04434, section 2.1
        and appendix C. The norms of the latents are those of section 3.1.2.
        A scaling such as `YaRNScaling` multiplies all scores, as in the
        authors' code.

    Example:

    >>> layer = keras_attention.MultiHeadLatentAttention(
    ...     4, latent_dim=6, causal=True)
    >>> x = np.ones((2, 5, 16), "float32")
    >>> tuple(layer(x).shape)
    (2, 5, 16)
    >>> cache = layer.initial_cache(batch_size=2, max_length=5)
    >>> {name: tuple(kept.shape) for name, kept in cache.items()}
    {'latent': (2, 5, 6), 'rotary_key': (2, 5, 2), 'mask': (2, 5),
     'length': (2,)}
    >>> output, cache = layer(x[:, :3], cache=cache)
    >>> tuple(output.shape)
    (2, 3, 16)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int | None = None,
        rotary_dim: int | None = None,
        value_dim: int | None = None,
        latent_dim: int | None = None,
        query_latent_dim: int | None = None,
        output_dim: int | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        window: int | None = None,
        positions: str | Rotary = "rotary",
        logit_soft_cap: float | None = None,
        epsilon: float = 1e-6,
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
        self.rotary_dim = check_optional_integer("rotary_dim", rotary_dim)
        self.value_dim = check_optional_integer("value_dim", value_dim)
        self.latent_dim = check_optional_integer("latent_dim", latent_dim)
        self.query_latent_dim = check_optional_integer(
            "query_latent_dim", query_latent_dim
        )
        self.output_dim = check_optional_integer("output_dim", output_dim)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        if not isinstance(self.positions, Rotary):
            raise ValueError(
                "`positions` must be 'rotary' or a `Rotary`: a part of each "
                "head is rotated, the rest knows no positions. Received: "
                f"positions={positions!r}"
            )
        if key_dim is not None:
            self._find_widths(key_dim)

    def build(
        self, query_shape: Shape, value_shape: Shape | None = None
    ) -> None:
        query_shape, value_shape, _ = self.complete_shapes(
            query_shape, value_shape
        )
        self.check_widths(query_shape, value_shape, value_shape)
        query_width, value_width = query_shape[-1], value_shape[-1]
        self._input_widths = query_width, value_width
        key_dim = self.key_dim
        if key_dim is None:
            if query_width % self.num_heads:
                raise ValueError(
                    "The query's width must be a multiple of `num_heads`. "
                    f"Received: num_heads={self.num_heads} for width "
                    f"{query_width} in layer '{self.name}'. Set `key_dim`."
                )
            key_dim = query_width // self.num_heads
        self._widths = self._find_widths(key_dim)
        _, rotary_dim, value_dim, latent_dim = self._widths
        score_dim = key_dim + rotary_dim
        self.build_positions(query_width, score_dim)
        self.scale = self.positions.score_factor / math.sqrt(score_dim)
        if self.query_latent_dim is not None:
            self.query_down = self._make_dense(
                "query_down", query_width, self.query_latent_dim
            )
            self.query_norm = self._make_norm(
                "query_norm", self.query_latent_dim
            )
            query_width = self.query_latent_dim
        self.query_up = self._make_dense(
            "query_up", query_width, self.num_heads * score_dim
        )
        self.latent_down = self._make_dense(
            "latent_down", value_width, latent_dim + rotary_dim
        )
        self.latent_norm = self._make_norm("latent_norm", latent_dim)
        # Kernels, not layers: the absorbed form multiplies by them from the
        # other side.
        self.key_up, self.value_up = (
            self.add_weight(
                name=f"{name}_kernel",
                shape=(latent_dim, self.num_heads * width),
                initializer=clone_initializer(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
            )
            for name, width in (("key_up", key_dim), ("value_up", value_dim))
        )
        self.output_projection = self._make_dense(
            "output_projection",
            self.num_heads * value_dim,
            self.output_dim or query_shape[-1],
        )

    def call(
        self,
        query: Tensor,
        value: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        attention_bias: Tensor | None = None,
        cache: Cache | None = None,
        mask: Tensor | None = None,
        query_positions: Tensor | None = None,
        key_positions: Tensor | None = None,
    ) -> Any:
        return super().call(
            query,
            value,
            query_mask=query_mask,
            value_mask=value_mask,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
            use_causal_mask=use_causal_mask,
            attention_bias=attention_bias,
            cache=cache,
            mask=mask,
            query_positions=query_positions,
            key_positions=key_positions,
        )

    def attend_inputs(
        self, inputs: AttentionInputs, return_scores: bool, training: Any
    ) -> tuple[Any, Any, Any]:
        query, rotary_query = self.project_query(inputs)
        inputs, (latent, rotary_key) = self.remember(inputs)
        attend = (
            self.attend_absorbed if self._absorbs(inputs) else self.attend_plain
        )
        output, scores, cache = attend(
            query,
            rotary_query,
            latent,
            rotary_key,
            inputs,
            return_scores,
            training,
        )  # [B, T, N, E], [B, N, T, S]
        batch, length, heads, width = ops.shape(output)
        output = project(
            self.output_projection,
            ops.reshape(output, (batch, length, heads * width)),
        )  # [B, T, output_dim]
        return output, scores, cache

    def project_query(self, inputs: AttentionInputs) -> tuple[Any, Any]:
        """The queries' parts `(B, T, N, D)` and `(B, T, N, R)`."""
        x = inputs.query
        if self.query_latent_dim is not None:
            x = self.query_norm(project(self.query_down, x))
        key_dim, rotary_dim, *_ = self._widths
        query = ops.reshape(
            project(self.query_up, x),
            (*ops.shape(x)[:2], self.num_heads, key_dim + rotary_dim),
        )
        rotary_query = self.rotate_query(query[..., key_dim:], inputs)
        return query[..., :key_dim], rotary_query

    def project_keys(self, inputs: AttentionInputs) -> dict[str, Any]:
        """The latent `(B, S, L)` and the keys' shared part `(B, S, R)`."""
        latent_dim = self._widths[-1]
        down = project(self.latent_down, inputs.value)
        rotary_key = ops.expand_dims(down[..., latent_dim:], 2)
        return {
            "latent": self.latent_norm(down[..., :latent_dim]),
            "rotary_key": self.rotate_key(rotary_key, inputs)[:, :, 0],
        }

    def input_widths(self) -> tuple[int, int, int]:
        query_width, value_width = self._input_widths
        return query_width, value_width, value_width

    def attend_plain(
        self,
        query: Tensor,
        rotary_query: Tensor,
        latent: Tensor,
        rotary_key: Tensor,
        inputs: AttentionInputs,
        return_scores: bool,
        training: Any,
    ) -> tuple[Any, Any, Any]:
        """Attend to keys and values that are made of the latents.

        Args:
            query: The queries' part that is not rotated, `(B, T, N, D)`.
            rotary_query: Their rotated part, `(B, T, N, R)`.
            latent: Latents, `(B, S, L)`.
            rotary_key: The keys' rotated part, `(B, S, R)`.
            inputs: What `remember` returned.
            return_scores: Boolean, whether the scores are wanted.
            training: Boolean, whether scores are dropped.

        Returns:
            As `attend`.
        """
        shape = (*ops.shape(latent)[:2], self.num_heads)
        key_dim, _, value_dim, _ = self._widths
        # Widths by number: -1 is nothing where there are no tokens.
        key, value = (
            ops.reshape(
                matmul(latent, ops.convert_to_tensor(kernel)), (*shape, width)
            )
            for kernel, width in (
                (self.key_up, key_dim),
                (self.value_up, value_dim),
            )
        )  # [B, S, N, D], [B, S, N, E]
        rotary_key = ops.broadcast_to(
            ops.expand_dims(rotary_key, 2), (*shape, rotary_key.shape[-1])
        )
        return self.attend(
            ops.concatenate([query, rotary_query], axis=-1),
            ops.concatenate([key, rotary_key], axis=-1),
            value,
            inputs,
            return_scores,
            training,
        )

    def attend_absorbed(
        self,
        query: Tensor,
        rotary_query: Tensor,
        latent: Tensor,
        rotary_key: Tensor,
        inputs: AttentionInputs,
        return_scores: bool,
        training: Any,
    ) -> tuple[Any, Any, Any]:
        """Attend to the latents themselves; as `attend_plain`."""
        query = self._multiply_heads(query, self.key_up, transpose=True)
        output, scores, cache = self.attend(
            ops.concatenate([query, rotary_query], axis=-1),
            ops.expand_dims(
                ops.concatenate([latent, rotary_key], axis=-1), 2
            ),  # [B, S, 1, L + R]
            ops.expand_dims(latent, 2),
            inputs,
            return_scores,
            training,
        )  # [B, T, N, L]
        output = self._multiply_heads(output, self.value_up)
        return output, scores, cache

    def cache_widths(self) -> dict[str, tuple[int, ...]]:
        if not self.built and self.key_dim is None:
            raise ValueError(
                "Without `key_dim`, the cache's widths are known once the "
                f"layer is built. Received: layer '{self.name}', not built. "
                "Call `layer.build(shape)`, or the layer, first."
            )
        _, rotary_dim, _, latent_dim = (
            self._widths if self.built else self._find_widths(self.key_dim)
        )
        return {"latent": (latent_dim,), "rotary_key": (rotary_dim,)}

    def num_query_heads(self, query_shape: Shape) -> int:
        return self.num_heads

    def check_widths(
        self, query_shape: Shape, key_shape: Shape, value_shape: Shape
    ) -> None:
        for name, shape in (("query", query_shape), ("value", value_shape)):
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    "MultiHeadLatentAttention expects tensors of shape (batch, "
                    "length, width) with a defined width. Received: "
                    f"{name} of shape {tuple(shape)} for layer '{self.name}'"
                )
        widths = query_shape[-1], value_shape[-1]
        if self.built and widths != self._input_widths:
            raise ValueError(
                "Query and value must have the widths for which the layer was "
                f"built, {self._input_widths}. Received: input of "
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
            "rotary_dim": self.rotary_dim,
            "value_dim": self.value_dim,
            "latent_dim": self.latent_dim,
            "query_latent_dim": self.query_latent_dim,
            "output_dim": self.output_dim,
            "epsilon": self.epsilon,
        }

    def _absorbs(self, inputs):
        """Whether the absorbed form multiplies less than the plain one.

        By query, key and head it multiplies 2 L + R numbers, the other
        D + R + E; by head it makes queries and outputs of T tokens, the other
        keys and values of all slots, L (D + E) multiplications each.
        """
        if inputs.cache is None and inputs.memory is None:
            return False
        num_queries = inputs.query.shape[1]
        if num_queries is None:
            return True
        key_dim, _, value_dim, latent_dim = self._widths
        more = num_queries * (2 * latent_dim - key_dim - value_dim)
        return more <= latent_dim * (key_dim + value_dim)

    def _multiply_heads(self, x, kernel, transpose=False):
        """`(B, T, N, .)` times each head's columns of a kernel `(L, N · .)`."""
        kernel = ops.convert_to_tensor(kernel)
        latent_dim = self._widths[-1]
        kernel = ops.reshape(kernel, (latent_dim, self.num_heads, -1))
        axes = (1, 2, 0) if transpose else (1, 0, 2)
        product = matmul(
            ops.swapaxes(x, 1, 2), ops.transpose(kernel, axes)
        )  # [B, N, T, .]
        return ops.swapaxes(product, 1, 2)

    def _find_widths(self, key_dim):
        """Widths D, R, E and L."""
        rotary_dim = self.rotary_dim or max(key_dim // 4 * 2, 2)
        self.positions.check_width(rotary_dim, "rotary_dim")
        return (
            key_dim,
            rotary_dim,
            self.value_dim or key_dim,
            self.latent_dim or 4 * key_dim,
        )

    def _make_dense(self, name, width, units):
        layer = keras.layers.Dense(
            units, use_bias=False, **self.sublayer_arguments(name)
        )
        layer.build((None, None, width))
        return layer

    def _make_norm(self, name, width):
        norm = keras.layers.RMSNormalization(
            epsilon=self.epsilon, name=name, dtype=self.sublayer_policy(name)
        )
        norm.build((None, None, width))
        return norm
