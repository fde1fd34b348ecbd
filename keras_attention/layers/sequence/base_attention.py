"""What the attention layers share: inputs, masks, options, decoding."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_attention.layers.base_layer import BaseLayer
from keras_attention.layers.sequence.input_lists import is_list_of_inputs
from keras_attention.ops.attention import decoding
from keras_attention.ops.attention.chunk_plan import larger
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.dispatch import find_backend_obstacle
from keras_attention.ops.attention.dispatch import raise_not_fused
from keras_attention.ops.attention.masks import bias_mask
from keras_attention.ops.attention.masks import check_scores_shape
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import first_tokens
from keras_attention.ops.attention.masks import join_heads
from keras_attention.ops.attention.masks import padding_mask
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import positions_in_use
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.attention.masks import window_or_first_mask
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.attention.scaled_dot_product import replace_unused
from keras_attention.ops.precision import to_float
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_is_shape
from keras_attention.validation import check_number
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability
from keras_attention.validation import check_seed

# Paths of attention by the argument `flash_attention`.
IMPLEMENTATIONS = {None: "auto", True: "fused", False: "unfused"}


@dataclasses.dataclass(frozen=True)
class AttentionInputs:
    """The arguments of a call, checked and complete.

    Args:
        query: Tensor `(B, T, ...)`, masked tokens replaced by zeros.
        key: Tensor `(B, S, ...)`, masked tokens replaced by zeros.
        value: Tensor `(B, S, ...)`, masked tokens replaced by zeros.
        query_mask: Boolean tensor `(B, T)` or `None`.
        key_mask: Boolean tensor `(B, S)` or `None`.
        mask: Boolean tensor that broadcasts to `(B, N, T, S)`, or `None`:
            the caller's mask.
        bias: Float tensor that broadcasts to `(B, N, T, S)`, or `None`: the
            caller's bias.
        in_use: `None`, or what `positions_in_use` says of `mask`.
        cache: Cache of the tokens before, or `None`.
        memory: What `encode_memory` returned, or `None`; key and value then
            stand for it.
        query_positions: Integers `(T,)`, with a cache `(B, T)`: the places
            that causality and a window count.
        key_positions: Integers `(S,)`, with a cache `(B, T)`.
        given_positions: Integers `(T,)` or `(B, T)`, and `(S,)` or `(B, S)`:
            the caller's positions of queries and keys, or `None`.
        causal: Boolean, whether a query attends to no later key.
        window: Integer, a query attends only to the keys less than `window`
            positions away; `None` for all.
    """

    query: Any
    key: Any
    value: Any
    query_mask: Any
    key_mask: Any
    mask: Any
    bias: Any
    in_use: Any
    cache: Any
    query_positions: Any
    key_positions: Any
    causal: bool
    window: int | None
    memory: Any = None
    given_positions: Any = None

    @property
    def encoded_positions(self) -> tuple[Any, Any]:
        """Positions of queries and keys for what encodes positions."""
        if self.given_positions is not None:
            return self.given_positions
        return self.query_positions, self.key_positions

    @property
    def distances(self) -> Any:
        """Key positions minus query positions.

        `(T + S - 1,)`, where entry `j - i + T - 1` is that of query i and key
        j; with a cache of M slots `(B, T, M)`, for given positions
        `(B, T, S)`.
        """
        if self.given_positions is not None:
            queries, keys = (
                x if len(x.shape) == 2 else ops.expand_dims(x, 0)
                for x in self.given_positions
            )
            return ops.expand_dims(keys, 1) - ops.expand_dims(queries, 2)
        if self.cache is not None:
            slots = ops.arange(ops.shape(self.cache["mask"])[1], dtype="int32")
            return slots - self.query_positions[..., None]
        num_queries, num_keys = ops.shape(self.query)[1], ops.shape(self.key)[1]
        # At least one, also where there is no query and no key.
        count = larger(num_queries + num_keys - 1, 1)
        return ops.arange(count, dtype="int32") - (num_keys - 1)


class BaseAttention(BaseLayer):
    """Base of the layers that attend from queries to keys and values.

    A subclass implements `call` as `prepare`, what it does to the queries,
    `remember`, `attend` and `collect`; and `project_keys`, `cache_widths`,
    `num_query_heads`, `check_widths` and `compute_output_shape`.

    Args:
        dropout: Float, rate at which scores are dropped in training.
        causal: Boolean, whether a query attends to no later key.
        window: Integer, a query attends to the keys less than `window`
            positions away; `None` for all.
        logit_soft_cap: Float c; scaled products s become c · tanh(s / c).
        seed: Integer seed of the dropout.
        **kwargs: Passed on to the next class.
    """

    scale: float | None = None
    # A window that is aligned at the first key, as Keras' layers have it.
    sliding_window: int | None = None
    # First tokens that are inside of every window.
    num_sink_tokens: int = 0
    # Whether a fused kernel is required or left out; `None` for neither.
    flash_attention: bool | None = None

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
        self.window = check_optional_integer("window", window)
        self.logit_soft_cap = logit_soft_cap
        if logit_soft_cap is not None:
            check_number(
                "logit_soft_cap", logit_soft_cap, 0, exclusive_minimum=True
            )
        self.seed = check_seed(seed)
        if self.dropout:
            # Named and owned as in Keras' layers, whose files then load.
            self._dropout_layer = keras.layers.Dropout(
                self.dropout,
                seed=self.seed,
                name="dropout",
                dtype=self.sublayer_policy("dropout"),
            )

    def cache_widths(self) -> dict[str, tuple[int, ...]]:
        """Shape of what a cache keeps of a token, by name."""
        raise NotImplementedError

    def project_keys(self, inputs: "AttentionInputs") -> dict[str, Any]:
        """What a cache keeps of each token, `(B, S, ...)`, by name."""
        raise NotImplementedError

    def num_query_heads(self, query_shape: Shape) -> int:
        """Number of heads of the queries."""
        raise NotImplementedError

    def check_widths(
        self, query_shape: Shape, key_shape: Shape, value_shape: Shape
    ) -> None:
        """Raise a `ValueError` unless ranks and widths are the layer's."""
        raise NotImplementedError

    def scores_shape(self, query_shape: Shape, key_shape: Shape) -> tuple:
        """Shape of the scores that the layer returns."""
        heads = self.num_query_heads(query_shape)
        return (query_shape[0], heads, query_shape[1], key_shape[1])

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> dict[str, Any]:
        """Returns an empty cache for decoding step by step.

        Args:
            batch_size: Integer, rows of the batch.
            max_length: Integer, largest number of tokens of a row, masked
                ones included.

        Returns:
            A dictionary of tensors for the layer's `cache` argument.

        Raises:
            ValueError: If the layer is not causal, if `max_length` is not
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
        return decoding.empty_cache(
            batch_size, max_length, self.cache_widths(), self.compute_dtype
        )

    def prepare(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor,
        query_mask: Tensor | None,
        value_mask: Tensor | None,
        key_mask: Tensor | None,
        attention_mask: Tensor | None,
        attention_bias: Tensor | None,
        cache: Any,
        use_causal_mask: bool = False,
        given_positions: tuple[Any, Any] = (None, None),
    ) -> AttentionInputs:
        """Check and complete the arguments of a call; replace masked tokens.

        Raises:
            TypeError: For a mask of floats.
            ValueError: For shapes that do not fit.
        """
        value, key, value_mask, memory, cache = self.recall(
            query, value, key, value_mask, key_mask, cache
        )
        if memory is not None and use_causal_mask:
            raise ValueError(
                "`use_causal_mask` counts queries, which are given piece by "
                "piece with a memory. Received: use_causal_mask=True for "
                f"layer '{self.name}'"
            )
        is_self = value is None
        query, value, key, masks, mask, bias = self._check_call(
            query,
            value,
            key,
            query_mask,
            value_mask,
            key_mask,
            attention_mask,
            attention_bias,
            cache,
        )
        query_mask, key_mask = masks
        num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
        in_use, causal, window = None, self.causal, self.window
        windows = [w for w in (window, self.sliding_window) if w is not None]
        if cache is not None or _have_one_length(query, key):
            # The first keys and the last ones are the same positions.
            causal = causal or bool(use_causal_mask)
            window = min(windows, default=None)
        else:
            by_first_key = position_mask(
                ops.arange(num_queries, dtype="int32"),
                ops.arange(num_keys, dtype="int32"),
                bool(use_causal_mask),
                self.sliding_window,
            )  # [T, S]
            if by_first_key is not None:
                by_first_key = ops.expand_dims(by_first_key, (0, 1))
            mask = combine_masks(mask, by_first_key)
        if cache is not None:
            places = decoding.token_positions(cache, num_keys)
            places = places, places
        else:
            places = (
                query_positions(num_queries, num_keys),
                ops.arange(num_keys, dtype="int32"),
            )
            if self.num_sink_tokens:
                sinks = first_tokens(key_mask, num_keys, self.num_sink_tokens)
                mask = combine_masks(
                    mask, window_or_first_mask(places[0], sinks, causal, window)
                )
                window = None
            if mask is not None:
                own = None if key_mask is None else padding_mask(key_mask)
                in_use = positions_in_use(
                    combine_masks(mask, own),
                    num_queries,
                    num_keys,
                    causal,
                    window,
                )
        query, key, value = _replace_masked_tokens(
            query, key, value, query_mask, key_mask, in_use
        )
        return AttentionInputs(
            query,
            key,
            value,
            query_mask,
            key_mask,
            mask,
            bias,
            in_use,
            cache,
            *places,
            causal,
            window,
            memory=memory,
            given_positions=self.check_positions(
                *given_positions,
                query.shape,
                key.shape,
                is_self,
                cache,
                memory,
            ),
        )

    def as_sequences(
        self, query: Tensor, value: Tensor, key: Tensor, *others: Any
    ) -> tuple[Any, ...]:
        """Give tensors, masks and bias the axes of sequences.

        A layer that takes tensors of other ranks overrides it.

        Args:
            query: Tensor or symbolic tensor.
            value: As the query.
            key: As the query.
            *others: Masks of query, value and key, mask and bias of the
                scores; each may be `None`.
        """
        return query, value, key, *others

    def recall(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor,
        value_mask: Tensor | None,
        key_mask: Tensor | None,
        cache: Any,
    ) -> tuple[Any, Any, Any, Any, Any]:
        """Tell a memory from a cache; a subclass that has none leaves it.

        Returns:
            Value, key, value mask, memory and cache, of the last two one at
            most.
        """
        return value, key, value_mask, None, cache

    def remember(
        self, inputs: AttentionInputs
    ) -> tuple[AttentionInputs, list[Any]]:
        """Project the keys' tokens, and put them into a cache if there is one.

        Args:
            inputs: What `prepare` returned.

        Returns:
            The inputs with the next cache, and what `project_keys` says of
            all tokens that can be attended to: of the new ones, or of the
            cache's slots, or of a memory.
        """
        if inputs.memory is not None:
            return inputs, [inputs.memory[name] for name in self.cache_widths()]
        tokens = self.project_keys(inputs)
        if inputs.cache is None:
            return inputs, list(tokens.values())
        cache = decoding.append(inputs.cache, tokens, inputs.key_mask)
        inputs = dataclasses.replace(inputs, cache=cache)
        return inputs, [cache[name] for name in tokens]

    def find_sinks(self, inputs: AttentionInputs) -> Any:
        """Mask of the first tokens, `(b, S)`, with a cache of its slots."""
        cache = inputs.cache
        mask = inputs.key_mask if cache is None else cache["mask"]
        num_keys = ops.shape(inputs.key if cache is None else mask)[1]
        return first_tokens(mask, num_keys, self.num_sink_tokens)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        inputs: AttentionInputs,
        return_scores: bool,
        training: Any,
        position_bias: Any = None,
        **options: Any,
    ) -> tuple[Any, Any, Any]:
        """Attend with the heads' queries, keys and values.

        Args:
            query: Queries, `(B, T, N, D)`.
            key: Keys, `(B, S, K, D)`, with a cache those of its slots.
            value: Values, `(B, S, K, E)`, with a cache those of its slots.
            inputs: What `remember` returned.
            return_scores: Boolean, whether the scores are wanted.
            training: Boolean, whether scores are dropped.
            position_bias: Bias for each of `inputs.distances`, `(N, T + S -
                1)`; with a cache or given positions `(B, T, N, S)`. Defaults
                to `None`.
            **options: Further options, as in `AttentionOptions`.

        Returns:
            Output `(B, T, N, E)`; scores `(B, N, T, S)` or `None`; the next
            cache, the memory or `None`.
        """
        cache, own_mask, own_bias = inputs.cache, None, None
        in_use = inputs.in_use
        if position_bias is not None and len(position_bias.shape) == 4:
            own_bias = ops.swapaxes(position_bias, 1, 2)  # [B, N, T, S]
            position_bias = None
        if cache is None:
            options |= {"causal": inputs.causal, "window": inputs.window}
            options["distance_bias"] = position_bias
            if inputs.key_mask is not None:
                own_mask = padding_mask(inputs.key_mask)  # [B, 1, 1, S]
        else:
            num_slots = ops.shape(key)[1]
            if self.num_sink_tokens:
                by_position = window_or_first_mask(
                    inputs.query_positions,
                    self.find_sinks(inputs),
                    True,
                    inputs.window,
                )  # [B, 1, T, M]
            else:
                by_position = position_mask(
                    inputs.query_positions,
                    ops.arange(num_slots, dtype="int32"),
                    True,
                    inputs.window,
                )  # [B, T, M]
                by_position = ops.expand_dims(by_position, 1)
            own_mask = combine_masks(
                by_position, padding_mask(cache["mask"])
            )  # [B, 1, T, M]
            if inputs.mask is not None:
                in_use = positions_in_use(
                    combine_masks(own_mask, inputs.mask),
                    ops.shape(query)[1],
                    num_slots,
                )
        if in_use is not None:
            if options.get("head_mixing") is not None:
                in_use = join_heads(in_use)
            query, key, value = replace_unused(query, key, value, in_use)
        bias = inputs.bias
        if own_bias is not None:
            bias = own_bias if bias is None else own_bias + bias
        dropout = self.dropout if training else 0.0
        output, scores = attend(
            query,
            key,
            value,
            AttentionOptions(
                mask=combine_masks(own_mask, inputs.mask),
                bias=bias,
                scale=self.scale,
                logit_soft_cap=self.logit_soft_cap,
                dropout=dropout,
                seed=self._dropout_layer.seed_generator if dropout else None,
                return_scores=return_scores,
                **options,
            ),
            IMPLEMENTATIONS[self.flash_attention],
        )
        if inputs.query_mask is not None:
            # A masked query attends to nothing, without a (B, T, S) mask.
            output = replace_masked(output, inputs.query_mask)
            if scores is not None:
                valid = ops.expand_dims(inputs.query_mask, (1, 3))
                scores = ops.where(valid, scores, 0)
        if cache is not None:
            output, scores = decoding.check_room(cache, output, scores)
        return output, scores, cache if inputs.memory is None else inputs.memory

    def collect(self, output: Tensor, scores: Tensor, cache: Any) -> Any:
        """Join what a call returns: output, scores and cache if there are."""
        results = (output, scores, cache)
        results = tuple(result for result in results if result is not None)
        return results[0] if len(results) == 1 else results

    def compute_output_spec(
        self,
        query: Tensor,
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
        query_positions: Tensor | None = None,
        key_positions: Tensor | None = None,
    ) -> Any:
        given = cache
        value, key, value_mask, memory, cache = self.recall(
            query, value, key, value_mask, key_mask, cache
        )
        is_self = value is None
        sequences = self._check_call(
            query,
            value,
            key,
            query_mask if mask is None else mask,
            value_mask,
            key_mask,
            attention_mask,
            attention_bias,
            cache,
        )
        self.check_positions(
            query_positions,
            key_positions,
            sequences[0].shape,
            sequences[2].shape,
            is_self,
            cache,
            memory,
        )
        if self.flash_attention:
            self._check_fused(return_attention_scores)
        value = query if value is None else value
        key = value if key is None else key
        shapes = [query.shape, value.shape, key.shape]
        output, scores = self._spec(self.compute_output_shape(*shapes)), None
        if return_attention_scores:
            keys = key if cache is None else cache["mask"]
            scores = self._spec(self.scores_shape(query.shape, keys.shape))
        if given is not None:
            given = {
                name: keras.KerasTensor(tensor.shape, tensor.dtype)
                for name, tensor in given.items()
            }
        return self.collect(output, scores, given)

    def get_config(self) -> dict[str, Any]:
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

    def _check_call(
        self,
        query,
        value,
        key,
        query_mask,
        value_mask,
        key_mask,
        attention_mask,
        attention_bias,
        cache,
    ):
        """Check tensors or symbolic tensors; complete and convert them."""
        for name, tensor in (("query", query), ("value", value), ("key", key)):
            self.check_one_tensor(name, tensor)
        if value is None and key is not None:
            raise ValueError(
                f"{type(self).__name__} needs the values that belong to the "
                "keys. Received: key without value. For self-attention pass "
                "the query alone."
            )
        if value is None:
            value_mask = query_mask if value_mask is None else value_mask
        value = query if value is None else value
        key = value if key is None else key
        (
            query,
            value,
            key,
            query_mask,
            value_mask,
            key_mask,
            attention_mask,
            attention_bias,
        ) = self.as_sequences(
            query,
            value,
            key,
            query_mask,
            value_mask,
            key_mask,
            attention_mask,
            attention_bias,
        )
        shapes = [tuple(x.shape) for x in (query, key, value)]
        self._check_lengths(*shapes)
        masks = {}
        for name, mask, shape in (
            ("query_mask", query_mask, shapes[0]),
            ("value_mask", value_mask, shapes[2]),
            ("key_mask", key_mask, shapes[1]),
        ):
            if mask is not None:
                mask = to_boolean_mask(name, mask)
                check_sequence_mask(name, mask, shape)
            masks[name] = mask
        num_keys = shapes[1][1]
        if cache is not None:
            self._check_cache(cache, shapes)
            num_keys = cache["mask"].shape[1]
        heads = self.num_query_heads(shapes[0])
        scores_shape = (shapes[0][0], heads, shapes[0][1], num_keys)
        if attention_mask is not None:
            attention_mask = to_boolean_mask("attention_mask", attention_mask)
            check_scores_shape(
                "attention_mask", attention_mask.shape, scores_shape
            )
        if attention_bias is not None:
            attention_bias = ops.convert_to_tensor(attention_bias)
            check_scores_shape(
                "attention_bias", attention_bias.shape, scores_shape
            )
        if isinstance(query, keras.KerasTensor):
            return query, value, key
        if attention_mask is not None:
            attention_mask = expand_to_heads(
                "attention_mask", attention_mask, scores_shape
            )
        if attention_bias is not None:
            (attention_bias,) = self._to_floats(attention_bias)
            attention_bias = expand_to_heads(
                "attention_bias", attention_bias, scores_shape
            )
            attention_mask = combine_masks(
                attention_mask, bias_mask(attention_bias)
            )
        is_shared = query_mask is value_mask
        query_mask, value_mask, key_mask = masks.values()
        if is_shared:
            value_mask = query_mask
        if key_mask is not None and key_mask is not value_mask:
            value_mask = combine_masks(value_mask, key_mask)
        query, key, value = self._to_floats(query, key, value)
        masks = query_mask, value_mask
        return query, value, key, masks, attention_mask, attention_bias

    def check_positions(
        self,
        query_positions: Any,
        key_positions: Any,
        query_shape: Shape,
        key_shape: Shape,
        is_self: bool,
        cache: Any,
        memory: Any,
    ) -> tuple[Any, Any] | None:
        """Check and complete the positions that a call was given.

        Returns:
            Positions of queries and keys as integer tensors, or `None` if
            none were given.

        Raises:
            TypeError: For positions that are no integers.
            ValueError: For shapes that do not fit, or positions that the
                layer cannot use.
        """
        return None

    def complete_shapes(
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> tuple[Shape, Shape, Shape]:
        """Shapes of query, value and key, those left out completed.

        Raises:
            ValueError: For what is no shape.
        """
        shapes = []
        for name, shape in (
            ("query", query_shape),
            ("value", value_shape),
            ("key", key_shape),
        ):
            self.check_one_tensor(name, shape)
            if shape is None and shapes:
                shape = shapes[-1]
            shapes.append(check_is_shape(f"{name}_shape", shape))
        return shapes[0], shapes[1], shapes[2]

    def check_one_tensor(self, name: str, tensor: Any) -> None:
        """Raise a `ValueError` for a list of tensors or of shapes."""
        if isinstance(tensor, dict) or is_list_of_inputs(tensor):
            raise ValueError(
                f"{type(self).__name__} takes query, value and key as "
                "arguments of their own: pass query and value as "
                f"`layer(query, value)`. Received: {name} is a "
                f"{type(tensor).__name__} of {len(tensor)} for layer "
                f"'{self.name}'"
            )

    def _check_fused(self, return_attention_scores):
        """Check what is known of a fused kernel before tensors are."""
        reason = find_backend_obstacle()
        if reason is None and return_attention_scores:
            reason = "has no `return_attention_scores`"
        if reason is not None:
            raise_not_fused({"fused": reason})

    def _check_lengths(self, query_shape, key_shape, value_shape):
        self.check_widths(query_shape, key_shape, value_shape)
        received = (
            f"Received: query of shape {query_shape}, key of shape "
            f"{key_shape}, value of shape {value_shape} for layer "
            f"'{self.name}'"
        )
        for name, sizes in (
            ("Query, key and value must have the same batch", (0, 0, 0)),
            ("Key and value must have the same length", (None, 1, 1)),
        ):
            known = {
                shape[axis]
                for shape, axis in zip(
                    (query_shape, key_shape, value_shape), sizes, strict=True
                )
                if axis is not None and shape[axis] is not None
            }
            if len(known) > 1:
                raise ValueError(f"{name}. {received}")

    def _check_cache(self, cache, shapes):
        self._check_decodes()
        query_shape, key_shape, _ = shapes
        lengths = query_shape[1], key_shape[1]
        if None not in lengths and lengths[0] != lengths[1]:
            raise ValueError(
                "With a cache, the new tokens are queries and keys at once. "
                f"Received: query of shape {query_shape}, key of shape "
                f"{key_shape}"
            )
        decoding.check_cache(self, cache, self.cache_widths(), query_shape)

    def _to_floats(self, *tensors):
        """Cast integers; equal tensors stay one tensor."""
        cast = {id(x): to_float(x, self.compute_dtype) for x in tensors}
        return [cast[id(x)] for x in tensors]

    def _check_decodes(self):
        if not self.causal:
            raise ValueError(
                "Decoding step by step equals the full pass only if no token "
                "attends to a later one. Received: causal=False in layer "
                f"'{self.name}'. Make the layer with `causal=True`."
            )


def _have_one_length(query, key):
    """Whether there are as many queries as keys, as far as is known."""
    lengths = query.shape[1], key.shape[1]
    return query is key or None not in lengths and lengths[0] == lengths[1]


def _replace_masked_tokens(query, key, value, query_mask, key_mask, in_use):
    """Replace tokens that are masked or that take part in nothing.

    What is one tensor, under one mask, stays one tensor.
    """
    is_self = query is key and query_mask is key_mask
    if in_use is not None:
        queries, keys = (ops.any(mask, axis=1) for mask in in_use)
        if is_self:
            queries = keys = ops.logical_or(queries, keys)
        query_mask = combine_masks(query_mask, queries)
        key_mask = query_mask if is_self else combine_masks(key_mask, keys)
    replaced = {}

    def replace(x, mask):
        if mask is None:
            return x
        pair = id(x), id(mask)
        if pair not in replaced:
            replaced[pair] = replace_masked(x, mask)
        return replaced[pair]

    return replace(query, query_mask), *(
        replace(x, key_mask) for x in (key, value)
    )
