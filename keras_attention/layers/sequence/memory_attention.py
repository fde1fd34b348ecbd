"""Attention to a sequence whose keys and values are projected once."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_attention import BaseAttention
from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.ops.attention import decoding
from keras_attention.types import Cache
from keras_attention.types import Tensor


class MemoryAttention(BaseAttention):
    """Base of the layers that can keep the keys and values of an encoder.

    A memory is a cache without `"length"`: it holds all tokens from the
    start. A subclass says the widths of its tokens in `input_widths`.
    """

    def input_widths(self) -> tuple[int, int, int]:
        """Widths of the tokens of query, key and value, once built."""
        raise NotImplementedError

    def encode_memory(
        self,
        value: Tensor,
        key: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_positions: Tensor | None = None,
    ) -> Cache:
        """Projects what is attended to once, for many calls.

            memory = layer.encode_memory(encoded, value_mask=mask)
            output, memory = layer(query, cache=memory)

        A call with it equals one with `value`, `key` and `value_mask`, and
        returns it as the cache. It is for attention to another sequence while
        decoding: the layer must have no `causal` and no `window`, which count
        from the end of the queries. With rotary positions, each call must be
        given `query_positions`.

        Args:
            value: Float tensor `(batch, S, width)`, as in a call.
            key: Float tensor `(batch, S, width)`. Defaults to `None`,
                `value`.
            value_mask: Boolean tensor `(batch, S)`, `False` for masked
                tokens. Defaults to `None`.
            key_positions: Integer tensor `(S,)` or `(batch, S)`, for rotary
                positions. Defaults to `None`, the places of the tokens.

        Returns:
            A dictionary of tensors for the layer's `cache` argument.

        Raises:
            ValueError: If the layer is not built, or has options that a
                memory does not go with.
        """
        if not self.built:
            raise ValueError(
                "A memory is made with the layer's weights. Received: layer "
                f"'{self.name}', not built. Call `layer.build(query_shape, "
                "value_shape)`, or the layer, first."
            )
        self.check_memory_options()
        value = ops.convert_to_tensor(value)
        if value_mask is None:
            value_mask = getattr(value, "_keras_mask", None)
        batch, length = ops.shape(value)[:2]
        if key_positions is None:
            key_positions = ops.arange(length, dtype="int32")
        no_query = ops.zeros(
            (batch, 0, self.input_widths()[0]), self.compute_dtype
        )
        query_positions, key_positions = self.memory_positions(
            ops.arange(0, dtype="int32"), key_positions
        )
        inputs = self.prepare(
            CallArguments(
                no_query,
                value,
                key,
                value_mask=value_mask,
                query_positions=query_positions,
                key_positions=key_positions,
            )
        )
        mask = inputs.key_mask
        if mask is None:
            mask = ops.ones((batch, length), "bool")
        tokens = {
            name: ops.cast(x, self.compute_dtype)
            for name, x in self.project_keys(inputs).items()
        }
        return {**tokens, "mask": mask}

    def memory_positions(
        self, query_positions: Any, key_positions: Any
    ) -> tuple[Any, Any]:
        """Positions that a call with a memory is given; none by default."""
        return None, None

    def check_memory_options(self) -> None:
        """Raise a `ValueError` for options that a memory does not go with."""
        windows = {self.window, self.sliding_window}
        if self.causal or windows != {None}:
            raise ValueError(
                "A memory needs a layer without `causal` and windows: they "
                "count queries, which are given piece by piece. Received: "
                f"causal={self.causal}, window={self.window}, sliding_window="
                f"{self.sliding_window} in layer '{self.name}'"
            )

    def recall(self, given: CallArguments) -> CallArguments:
        memory = given.cache
        is_memory = (
            isinstance(memory, dict)
            and "mask" in memory
            and "length" not in memory
        )
        if not is_memory:
            return given
        self.check_memory_options()
        names = ("value", "key", "value_mask", "key_mask")
        others = [name for name in names if getattr(given, name) is not None]
        if others:
            raise ValueError(
                "A memory holds keys, values and their mask: only the query "
                f"may be given with it. Received: {others} for layer "
                f"'{self.name}'"
            )
        if given.use_causal_mask:
            raise ValueError(
                "`use_causal_mask` counts queries, which are given piece by "
                "piece with a memory. Received: use_causal_mask=True for "
                f"layer '{self.name}'"
            )
        query, mask = given.query, memory["mask"]
        decoding.check_memory(self, memory, self.cache_widths(), query.shape)
        # Placeholders of key and value have their shapes, for the checks.
        _, key, value = (
            self._placeholder(query, mask, width)
            for width in self.input_widths()
        )
        return given.replace(
            value=value, key=key, value_mask=mask, memory=memory, cache=None
        )

    def _placeholder(self, query, mask, width):
        if isinstance(query, keras.KerasTensor):
            return keras.KerasTensor((*mask.shape, width), self.compute_dtype)
        zero = ops.zeros((1, 1, 1), self.compute_dtype)
        return ops.broadcast_to(zero, (*ops.shape(mask), width))
