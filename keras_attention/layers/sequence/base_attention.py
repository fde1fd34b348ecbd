"""What the attention layers share: masks, positions, scores, decoding."""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention import decoding
from keras_attention.ops.attention.masks import check_boolean_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import padding_mask
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention,
)
from keras_attention.validation import check_boolean
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability


class BaseAttention(keras.layers.Layer):
    """Base of the layers that attend from queries to keys and values.

    A subclass implements `to_heads`, `from_heads`, `cache_widths` and
    `compute_output_shape`, and where it has them `scale` and `distance_bias`.

    Args:
        dropout: rate at which scores are dropped in training.
        causal: whether a query sees no later key.
        window: a query sees the keys less than `window` positions away;
            `None` for all.
        logit_soft_cap: c; scaled products s become c · tanh(s / c).
        seed: integer seed of the dropout.
        **kwargs: passed on to the next class.
    """

    scale: float | None = None

    def __init__(
        self,
        dropout: float = 0.0,
        causal: bool = False,
        window: int | None = None,
        logit_soft_cap: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dropout = check_probability("dropout", dropout)
        self.causal = check_boolean("causal", causal)
        self.window = window
        if window is not None:
            check_positive_integer("window", window)
        self.logit_soft_cap = logit_soft_cap
        if logit_soft_cap is not None:
            check_number(
                "logit_soft_cap", logit_soft_cap, 0, exclusive_minimum=True
            )
        self.seed = seed
        if seed is not None:
            check_positive_integer("seed", seed, minimum=0)
        if self.dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def to_heads(self, query, key, value, query_places, key_places):
        """Return query `(B, T, N, D)`, key `(B, S, K, D)`, value.

        The places are the positions of the tokens, `(T,)` or `(B, T)`.
        """
        raise NotImplementedError

    def from_heads(self, output):
        """Return the layer's output from the heads' `(B, T, N, E)`."""
        raise NotImplementedError

    def cache_widths(self) -> dict[str, tuple[int, int]]:
        """Heads and width of cached keys and values."""
        raise NotImplementedError

    def scores_shape(self, query_shape, num_keys) -> tuple:
        """Shape of the scores that the layer returns."""
        raise NotImplementedError

    def distance_bias(self, distances):
        """Bias by distance: `(..., R)` to `(..., N, R)`; `None` for none."""
        return None

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> dict[str, Any]:
        """An empty cache for decoding step by step.

        Args:
            batch_size: rows of the batch.
            max_length: most tokens that a row can come to hold.

        Returns:
            A dictionary of tensors for the layer's `cache` argument.

        Raises:
            ValueError: if the layer is not causal, if `max_length` is not
                given, or the widths are not known before the layer is built.
        """
        self._check_decodes()
        if max_length is None:
            raise ValueError(
                f"{type(self).__name__} needs the largest number of tokens to "
                "make a cache. Received: max_length=None"
            )
        check_positive_integer("batch_size", batch_size)
        check_positive_integer("max_length", max_length)
        (heads, key_dim), (_, value_dim) = self.cache_widths().values()
        return decoding.empty_cache(
            batch_size,
            max_length,
            heads,
            key_dim,
            value_dim,
            self.compute_dtype,
        )

    def call(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        attention_bias=None,
        cache=None,
        return_attention_scores=False,
        training=None,
        mask=None,
    ):
        query_mask = query_mask if mask is None else mask
        if value is None:
            value_mask = query_mask if value_mask is None else value_mask
        key_mask = combine_masks(
            *(
                None if m is None else ops.cast(m, "bool")
                for m in (value_mask, key_mask)
            )
        )
        query, value, key = self._check_call(
            query, value, key, attention_mask, cache
        )
        num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
        if cache is None:
            query_places = query_positions(num_queries, num_keys)
            key_places = ops.arange(num_keys, dtype="int32")
        else:
            query_places = decoding.token_positions(cache, num_keys, key_mask)
            key_places = query_places
        heads = self.to_heads(query, key, value, query_places, key_places)

        options = {}
        if cache is None:
            if key_mask is not None:
                options["mask"] = padding_mask(key_mask)
            # Entry j - i + T - 1 of the distances from query i to key j.
            distances = ops.arange(num_queries + num_keys - 1, dtype="int32")
            options["distance_bias"] = self.distance_bias(
                distances - (num_keys - 1)
            )
            options |= {"causal": self.causal, "window": self.window}
        else:
            cache = decoding.append(cache, *heads[1:], key_mask)
            decoding.check_room(cache)
            heads = (heads[0], cache["key"], cache["value"])
            slots = ops.arange(ops.shape(cache["key"])[1], dtype="int32")
            seen = position_mask(query_places, slots, True, self.window)
            options["mask"] = ops.expand_dims(seen, 1)  # [B, 1, T, M]
            distances = slots - query_places[..., None]  # [B, T, M]
            bias = self.distance_bias(distances)  # [B, T, N, M]
            if bias is not None:
                options["bias"] = ops.swapaxes(bias, 1, 2)
        self._add_arguments(options, heads, attention_mask, attention_bias)

        output = scaled_dot_product_attention(
            *heads,
            **options,
            scale=self.scale,
            logit_soft_cap=self.logit_soft_cap,
            dropout=self.dropout if training else 0.0,
            seed=self.seed_generator if self.dropout else None,
            return_scores=return_attention_scores,
        )
        output, scores = output if return_attention_scores else (output, None)
        if query_mask is not None:
            # A padded query sees nothing, without a (B, T, S) mask.
            valid = ops.cast(query_mask, output.dtype)
            output = output * ops.expand_dims(valid, (2, 3))
            if scores is not None:
                scores = scores * ops.expand_dims(valid, (1, 3))
        results = [self.from_heads(output)]
        if scores is not None:
            shape = self.scores_shape(query.shape, None)
            results.append(scores if len(shape) == 4 else scores[:, 0])
        if cache is not None:
            results.append(cache)
        return results[0] if len(results) == 1 else tuple(results)

    def compute_output_spec(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        attention_bias=None,
        cache=None,
        return_attention_scores=False,
        training=None,
        mask=None,
    ):
        query, value, key = self._check_call(
            query, value, key, attention_mask, cache
        )
        shapes = [query.shape, value.shape, key.shape]
        results = [self._spec(self.compute_output_shape(*shapes))]
        if return_attention_scores:
            keys = key.shape[1] if cache is None else cache["key"].shape[1]
            results.append(self._spec(self.scores_shape(query.shape, keys)))
        if cache is not None:
            results.append(
                {
                    name: keras.KerasTensor(tensor.shape, tensor.dtype)
                    for name, tensor in cache.items()
                }
            )
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "causal": self.causal,
            "window": self.window,
            "logit_soft_cap": self.logit_soft_cap,
            "seed": self.seed,
        }

    def _spec(self, shape):
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _add_arguments(self, options, heads, attention_mask, attention_bias):
        """Join the caller's mask and bias to the layer's own."""
        query, key = heads[:2]
        shape = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
        if attention_mask is not None:
            attention_mask = expand_to_heads(
                "attention_mask", attention_mask, shape
            )
            options["mask"] = combine_masks(options.get("mask"), attention_mask)
        if attention_bias is not None:
            bias = expand_to_heads("attention_bias", attention_bias, shape)
            own = options.get("bias")
            options["bias"] = bias if own is None else own + bias

    def _check_call(self, query, value, key, attention_mask, cache):
        """Check the arguments; return query, value and key, all given."""
        if value is None and key is not None:
            raise ValueError(
                f"{type(self).__name__} needs the values that belong to the "
                "keys. Received: key without value. For self-attention give "
                "the query alone."
            )
        value = query if value is None else value
        key = value if key is None else key
        if attention_mask is not None:
            check_boolean_mask("attention_mask", attention_mask)
        if cache is None:
            return query, value, key
        self._check_decodes()
        if None not in (query.shape[1], key.shape[1]) and (
            query.shape[1] != key.shape[1]
        ):
            raise ValueError(
                "With a cache, the new tokens are queries and keys at once. "
                f"Received: query of shape {tuple(query.shape)}, key of shape "
                f"{tuple(key.shape)}"
            )
        decoding.check_cache(self, cache, self.cache_widths(), query.shape)
        return query, value, key

    def _check_decodes(self):
        if not self.causal:
            raise ValueError(
                "Decoding step by step equals the full pass only if no token "
                "sees a later one. Received: causal=False in layer "
                f"'{self.name}'. Make the layer with `causal=True`."
            )
