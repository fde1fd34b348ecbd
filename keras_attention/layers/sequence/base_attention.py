"""What the attention layers share: their call, masks, options, decoding."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_attention.layers.base_layer import BaseLayer
from keras_attention.layers.sequence.call_arguments import AttentionInputs
from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.layers.sequence.call_arguments import check_arguments
from keras_attention.layers.sequence.call_arguments import check_decodes
from keras_attention.layers.sequence.call_arguments import check_one_tensor
from keras_attention.layers.sequence.call_arguments import complete_arguments
from keras_attention.ops.attention import decoding
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.dispatch import find_backend_obstacle
from keras_attention.ops.attention.dispatch import raise_not_fused
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import first_tokens
from keras_attention.ops.attention.masks import join_heads
from keras_attention.ops.attention.masks import padding_mask
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import positions_in_use
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import window_or_first_mask
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.attention.scaled_dot_product import replace_unused
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


class BaseAttention(BaseLayer):
    """Base of the layers that attend from queries to keys and values.

    `call` checks its arguments by `prepare`, and leaves the rest to
    `attend_inputs`. A subclass implements that as what it does to the
    queries, `remember` and `attend`; and `project_keys`, `cache_widths`,
    `num_query_heads`, `check_widths` and `compute_output_shape`. One that
    takes other arguments has a `call` of its own, which passes them on.

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

    def project_keys(self, inputs: AttentionInputs) -> dict[str, Any]:
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
        check_decodes(self)
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

    def call(
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
        given = CallArguments(
            query,
            value,
            key,
            query_mask=query_mask if mask is None else mask,
            value_mask=value_mask,
            key_mask=key_mask,
            attention_mask=attention_mask,
            attention_bias=attention_bias,
            cache=cache,
            use_causal_mask=use_causal_mask,
            query_positions=query_positions,
            key_positions=key_positions,
        )
        if given.is_symbolic:
            return self._specify(given, return_attention_scores)
        return self.collect(
            *self.attend_inputs(
                self.prepare(given), return_attention_scores, training
            )
        )

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def attend_inputs(
        self, inputs: AttentionInputs, return_scores: bool, training: Any
    ) -> tuple[Any, Any, Any]:
        """Attend with the queries, keys and values of a call.

        Args:
            inputs: What `prepare` returned.
            return_scores: Boolean, whether the scores are wanted.
            training: Boolean, whether scores are dropped.

        Returns:
            The layer's output; scores of shape `scores_shape`, or `None`;
            the next cache, the memory or `None`.
        """
        raise NotImplementedError

    def prepare(self, given: CallArguments) -> AttentionInputs:
        """Check and complete the arguments of a call; replace masked tokens.

        Raises:
            TypeError: For a mask of floats.
            ValueError: For shapes that do not fit.
        """
        given = complete_arguments(self, given)
        given_shapes = ops.shape(given.query), ops.shape(given.key)
        given = check_arguments(self, given)
        query, key, value = given.query, given.key, given.value
        key_mask, mask, cache = (
            given.key_mask,
            given.attention_mask,
            given.cache,
        )
        num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
        in_use, causal, window = None, self.causal, self.window
        windows = [w for w in (window, self.sliding_window) if w is not None]
        if cache is not None or _have_one_length(query, key):
            # The first keys and the last ones are the same positions.
            causal = causal or bool(given.use_causal_mask)
            window = min(windows, default=None)
        else:
            by_first_key = position_mask(
                ops.arange(num_queries, dtype="int32"),
                ops.arange(num_keys, dtype="int32"),
                bool(given.use_causal_mask),
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
            query, key, value, given.query_mask, key_mask, in_use
        )
        return AttentionInputs(
            query,
            key,
            value,
            given.query_mask,
            key_mask,
            mask,
            given.attention_bias,
            in_use,
            cache,
            *places,
            causal,
            window,
            memory=given.memory,
            given_positions=self.check_positions(given),
            given_shapes=given_shapes,
        )

    def as_sequences(self, given: CallArguments) -> CallArguments:
        """Give tensors, masks and bias the axes of sequences.

        A layer that takes tensors of other ranks overrides it.
        """
        return given

    def recall(self, given: CallArguments) -> CallArguments:
        """Tell a memory from a cache; a subclass that has none leaves it.

        Args:
            given: Arguments with a cache, or with a memory in its place.

        Returns:
            The arguments with a memory or a cache, one at most; with a
            memory, value and key are placeholders of its shape.
        """
        return given

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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "causal": self.causal,
            "window": self.window,
            "logit_soft_cap": self.logit_soft_cap,
            "seed": self.seed,
        }

    def _specify(self, given, return_attention_scores):
        """Check a call with symbolic tensors; return its symbolic outputs."""
        kept = given.cache
        given = complete_arguments(self, given)
        self.check_positions(check_arguments(self, given))
        if self.flash_attention:
            self._check_fused(return_attention_scores)
        query, value, key = given.query, given.value, given.key
        output = self.compute_output_shape(query.shape, value.shape, key.shape)
        output, scores = self._spec(output), None
        if return_attention_scores:
            keys = key if given.cache is None else given.cache["mask"]
            scores = self._spec(self.scores_shape(query.shape, keys.shape))
        if kept is not None:
            kept = {
                name: keras.KerasTensor(tensor.shape, tensor.dtype)
                for name, tensor in kept.items()
            }
        return self.collect(output, scores, kept)

    def _spec(self, shape):
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def check_positions(self, given: CallArguments) -> tuple[Any, Any] | None:
        """Check the positions that a call was given.

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
            check_one_tensor(self, name, shape)
            if shape is None and shapes:
                shape = shapes[-1]
            shapes.append(check_is_shape(f"{name}_shape", shape))
        return shapes[0], shapes[1], shapes[2]

    def _check_fused(self, return_attention_scores):
        """Check what is known of a fused kernel before tensors are."""
        reason = find_backend_obstacle()
        if reason is None and return_attention_scores:
            reason = "has no `return_attention_scores`"
        if reason is not None:
            raise_not_fused({"fused": reason})


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
