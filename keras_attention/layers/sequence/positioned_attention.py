"""Attention that may know the order of its tokens."""

import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.call_arguments import AttentionInputs
from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.layers.sequence.memory_attention import MemoryAttention
from keras_attention.positions import BasePositions
from keras_attention.positions import get as get_positions
from keras_attention.positions import serialize as serialize_positions
from keras_attention.types import Tensor
from keras_attention.validation import shapes_broadcast


class PositionedAttention(MemoryAttention):
    """Base of the layers with the argument `positions`.

    A subclass calls `build_positions` in `build`, `rotate_query` and
    `position_bias` in `attend_inputs`, and `rotate_key` in `project_keys`.

    Args:
        positions: See `MultiHeadAttention`.
        **kwargs: Passed on to the next class.
    """

    num_heads: int

    def __init__(
        self, positions: str | BasePositions | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.positions = get_positions(positions)
        self.relative_bias = None

    def build_positions(self, query_width: int, key_dim: int) -> None:
        """Make what positions need.

        Args:
            query_width: Integer, width of the queries' tokens.
            key_dim: Integer, width of a head's queries and keys.
        """
        if self.positions is None:
            return
        self.scale = self.positions.score_factor / math.sqrt(key_dim)
        shape = self.positions.weight_shape(self.num_heads)
        if shape is not None:
            self.relative_bias = self.add_weight(
                name="relative_bias",
                shape=shape,
                # As in T5.
                initializer=keras.initializers.RandomNormal(
                    stddev=query_width**-0.5, seed=self.seed
                ),
            )

    def rotate_query(self, query: Tensor, inputs: AttentionInputs) -> Any:
        """Rotate queries, `(B, T, N, D)`, by their positions."""
        if self.positions is None:
            return query
        return self.positions.rotate(query, inputs.encoded_positions[0])

    def rotate_to_sinks(
        self, rotated: Tensor, query: Tensor, key: Tensor, inputs: Any
    ) -> tuple[Any, Any]:
        """Keep the first tokens at the far end of the window.

        Beyond the window, a query is as far from them as if the tokens in
        between did not exist. Queries and keys become twice as wide: one half
        is for the first tokens, and the keys of all others are zero there.

        Args:
            rotated: Rotated queries, `(B, T, N, D)`.
            query: The queries before they were rotated.
            key: Rotated keys, `(B, S, K, D)`.
            inputs: What `remember` returned.
        """
        is_first = self.find_sinks(inputs)  # [b, S]
        # Not an argmax, which some backends refuse where there is no key.
        rank = ops.cumsum(ops.cast(is_first, "int32"), axis=1)
        start = ops.sum(ops.cast(rank == 0, "int32"), axis=1)  # [b]
        last = start + self.num_sink_tokens + self.window - 1
        places = ops.minimum(
            inputs.query_positions, ops.expand_dims(last, 1)
        )  # [b, T]
        to_first = self.positions.rotate(query, places)
        is_first = ops.expand_dims(is_first, (2, 3))
        zero = ops.zeros((), key.dtype)
        parts = ops.where(is_first, zero, key), ops.where(is_first, key, zero)
        return (
            ops.concatenate([rotated, to_first], axis=-1),
            ops.concatenate(parts, axis=-1),
        )

    def rotate_key(self, key: Tensor, inputs: AttentionInputs) -> Any:
        """Rotate keys, `(B, S, N, D)`, by their positions."""
        if self.positions is None:
            return key
        return self.positions.rotate(key, inputs.encoded_positions[1])

    def memory_positions(
        self, query_positions: Any, key_positions: Any
    ) -> tuple[Any, Any]:
        if self.positions is None:
            return None, None
        return query_positions, key_positions

    def check_memory_options(self) -> None:
        super().check_memory_options()
        if self.positions is not None and self.positions.uses_distances:
            raise ValueError(
                "A memory goes with rotary positions, or with none: biases by "
                "distance need the positions of its keys. Received: positions="
                f"{self.positions} in layer '{self.name}'"
            )

    def position_bias(self, inputs: AttentionInputs) -> Any:
        """Bias for each of `inputs.distances`, `None` for none."""
        if self.positions is None or not self.positions.uses_distances:
            return None
        return self.positions.bias(
            inputs.distances, self.num_heads, self.causal, self.relative_bias
        )

    def check_positions(self, given: CallArguments) -> tuple[Any, Any] | None:
        query_positions = given.query_positions
        key_positions = given.key_positions
        if given.memory is not None and self.positions is not None:
            if query_positions is None or key_positions is not None:
                raise ValueError(
                    "With a memory and rotary positions, `query_positions` "
                    "must be given, and `key_positions` are those of the "
                    f"memory. Received: query_positions={query_positions!r}, "
                    f"key_positions={key_positions!r} for layer '{self.name}'"
                )
            # Of the keys, which are rotated already.
            key_positions = ops.zeros((1,), "int32")
        if query_positions is None and key_positions is None:
            return None
        received = f"positions={self.positions} in layer '{self.name}'"
        if self.positions is None:
            raise ValueError(
                "Without `positions`, the layer has no use for "
                f"`query_positions` and `key_positions`. Received: {received}. "
                "Make the layer with `positions`, such as 'rotary'."
            )
        if self.num_sink_tokens:
            raise ValueError(
                "`num_sink_tokens` counts the places of tokens, which cannot "
                f"be given. Received: num_sink_tokens={self.num_sink_tokens} "
                f"in layer '{self.name}' with positions for a call"
            )
        if given.cache is not None and self.positions.uses_distances:
            raise ValueError(
                "With a cache, only rotary positions can be given per call: "
                "the cache does not hold the positions of its keys. Received: "
                f"{received}. Leave `query_positions` out, and pass `mask` "
                "where there is padding."
            )
        if query_positions is None or key_positions is None:
            raise ValueError(
                "`query_positions` and `key_positions` must both be given, "
                "unless the layer attends to its query alone. Received: "
                f"query_positions={query_positions!r}, "
                f"key_positions={key_positions!r} for layer '{self.name}'"
            )
        return (
            _to_integers("query_positions", query_positions, given.query.shape),
            _to_integers("key_positions", key_positions, given.key.shape),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "positions": serialize_positions(self.positions),
        }


def _to_integers(name, positions, shape):
    if not isinstance(positions, keras.KerasTensor):
        positions = ops.convert_to_tensor(positions)
    dtype = keras.backend.standardize_dtype(positions.dtype)
    if "int" not in dtype:
        raise TypeError(
            f"`{name}` must be integers. Received: {name} of dtype {dtype}"
        )
    found, expected = tuple(positions.shape), tuple(shape[:2])
    if len(found) not in (1, 2) or not shapes_broadcast(
        found, expected[2 - len(found) :]
    ):
        raise ValueError(
            f"`{name}` must have the shape (length,) or (batch, length), here "
            f"{expected[1:]} or {expected}. Received: {name} of shape {found}"
        )
    return positions
