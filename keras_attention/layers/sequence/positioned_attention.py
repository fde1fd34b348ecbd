"""Attention that may know the order of its tokens."""

import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_attention import AttentionInputs
from keras_attention.layers.sequence.base_attention import BaseAttention
from keras_attention.positions import BasePositions
from keras_attention.positions import get as get_positions
from keras_attention.positions import serialize as serialize_positions
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import shapes_broadcast


class PositionedAttention(BaseAttention):
    """Base of the layers with the argument `positions`.

    A subclass calls `build_positions` in `build`, and in `call` `rotate` and
    `position_bias`.

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

    def rotate(
        self, query: Tensor, key: Tensor, inputs: AttentionInputs
    ) -> tuple[Any, Any]:
        """Rotate queries and keys, `(B, T, N, D)`, by their positions."""
        if self.positions is None:
            return query, key
        query_positions, key_positions = inputs.encoded_positions
        return (
            self.positions.rotate(query, query_positions),
            self.positions.rotate(key, key_positions),
        )

    def position_bias(self, inputs: AttentionInputs) -> Any:
        """Bias for each of `inputs.distances`, `None` for none."""
        if self.positions is None or not self.positions.uses_distances:
            return None
        return self.positions.bias(
            inputs.distances, self.num_heads, self.causal, self.relative_bias
        )

    def check_positions(
        self,
        query_positions: Any,
        key_positions: Any,
        query_shape: Shape,
        key_shape: Shape,
        is_self: bool,
        cache: Any,
    ) -> tuple[Any, Any] | None:
        if query_positions is None and key_positions is None:
            return None
        received = f"positions={self.positions} in layer '{self.name}'"
        if self.positions is None:
            raise ValueError(
                "Without `positions`, the layer has no use for "
                f"`query_positions` and `key_positions`. Received: {received}. "
                "Make the layer with `positions`, such as 'rotary'."
            )
        if cache is not None and self.positions.uses_distances:
            raise ValueError(
                "With a cache, only rotary positions can be given per call: "
                "the cache does not hold the positions of its keys. Received: "
                f"{received}. Leave `query_positions` out, and pass `mask` "
                "where there is padding."
            )
        if is_self and key_positions is None:
            key_positions = query_positions
        if query_positions is None or key_positions is None:
            raise ValueError(
                "`query_positions` and `key_positions` must both be given, "
                "unless the layer attends to its query alone. Received: "
                f"query_positions={query_positions!r}, "
                f"key_positions={key_positions!r} for layer '{self.name}'"
            )
        return (
            _to_integers("query_positions", query_positions, query_shape),
            _to_integers("key_positions", key_positions, key_shape),
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
