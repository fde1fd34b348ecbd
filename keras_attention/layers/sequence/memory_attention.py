"""Attention to a sequence whose keys and values are projected once."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_attention import BaseAttention
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
        inputs = self.prepare(
            no_query,
            value,
            key,
            None,
            value_mask,
            None,
            None,
            None,
            None,
            given_positions=self.memory_positions(
                ops.arange(0, dtype="int32"), key_positions
            ),
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

    def recall(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor,
        value_mask: Tensor | None,
        key_mask: Tensor | None,
        cache: Any,
    ) -> tuple[Any, Any, Any, Any, Any]:
        is_memory = (
            isinstance(cache, dict)
            and "mask" in cache
            and "length" not in cache
        )
        if not is_memory:
            return value, key, value_mask, None, cache
        self.check_memory_options()
        given = {
            "value": value,
            "key": key,
            "value_mask": value_mask,
            "key_mask": key_mask,
        }
        given = [name for name, tensor in given.items() if tensor is not None]
        if given:
            raise ValueError(
                "A memory holds keys, values and their mask: only the query "
                f"may be given with it. Received: {given} for layer "
                f"'{self.name}'"
            )
        memory = cache
        decoding.check_memory(self, memory, self.cache_widths(), query.shape)
        # What stands for key and value has their shape, for a call's checks.
        _, key, value = (
            self._stand_in(query, memory["mask"], width)
            for width in self.input_widths()
        )
        return value, key, memory["mask"], memory, None

    def _stand_in(self, query, mask, width):
        if isinstance(query, keras.KerasTensor):
            return keras.KerasTensor((*mask.shape, width), self.compute_dtype)
        zero = ops.zeros((1, 1, 1), self.compute_dtype)
        return ops.broadcast_to(zero, (*ops.shape(mask), width))
