"""The arguments of an attention layer's call, as given and as checked."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.chunk_plan import larger


@dataclasses.dataclass(frozen=True)
class CallArguments:
    """The arguments of a call, as they are given.

    Args:
        query: Tensor or symbolic tensor, as are all others.
        value: Values; `None` for self-attention.
        key: Keys; `None` for the values.
        query_mask: Mask of the queries, or `None`.
        value_mask: Mask of the values, or `None`.
        key_mask: Mask of the keys, or `None`.
        attention_mask: Mask of the scores, or `None`.
        attention_bias: Bias of the scores, or `None`.
        cache: Cache of the tokens before, or `None`; or a memory, until
            `recall` tells it apart.
        memory: What `encode_memory` returned, or `None`; value and key are
            then placeholders of its shape.
        use_causal_mask: Boolean, whether query i attends to keys up to i.
        query_positions: Positions of the queries, or `None`.
        key_positions: Positions of the keys, or `None`.
    """

    query: Any
    value: Any = None
    key: Any = None
    query_mask: Any = None
    value_mask: Any = None
    key_mask: Any = None
    attention_mask: Any = None
    attention_bias: Any = None
    cache: Any = None
    memory: Any = None
    use_causal_mask: bool = False
    query_positions: Any = None
    key_positions: Any = None

    @property
    def is_symbolic(self) -> bool:
        """Whether a tensor is one of a functional model, without values."""
        return any(
            isinstance(x, keras.KerasTensor)
            for x in keras.tree.flatten(vars(self))
        )

    def replace(self, **changes: Any) -> "CallArguments":
        """Return the arguments with some of them replaced."""
        return dataclasses.replace(self, **changes)


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
        memory: What `encode_memory` returned, or `None`; key and value are
            then placeholders of its shape.
        query_positions: Integers `(T,)`, with a cache `(B, T)`: the places
            that causality and a window count.
        key_positions: Integers `(S,)`, with a cache `(B, T)`.
        given_positions: Integers `(T,)` or `(B, T)`, and `(S,)` or `(B, S)`:
            the caller's positions of queries and keys, or `None`.
        given_shapes: Shapes of query and key as they were given, before
            `as_sequences`.
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
    given_shapes: Any = None

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
