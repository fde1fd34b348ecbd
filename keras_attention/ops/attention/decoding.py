"""The memory of step-by-step decoding: keys and values of the tokens so far.

A cache is a dictionary of tensors, so it goes through `tf.function`,
`tf.while_loop` and `jax.jit` as it is:

    key     (B, M, K, D)   one slot for each token, M in all
    value   (B, M, K, E)
    length  (B,)           tokens that each row of the batch holds so far

Rows may have different lengths. A token that is masked takes no slot, so
prompts may be padded on either side.
"""

from typing import Any

import keras
from keras import ops


def empty_cache(
    batch_size: int,
    max_length: int,
    num_heads: int,
    key_dim: int,
    value_dim: int,
    dtype: Any,
) -> Any:
    """A cache that holds no token yet."""
    shape = (batch_size, max_length, num_heads)
    return {
        "key": ops.zeros((*shape, key_dim), dtype),
        "value": ops.zeros((*shape, value_dim), dtype),
        "length": ops.zeros((batch_size,), "int32"),
    }


def token_positions(cache: Any, num_tokens: Any, mask: Any = None) -> Any:
    """Slot of each new token: `(B, T)`, counted over the tokens not masked."""
    length = ops.expand_dims(cache["length"], 1)
    if mask is None:
        return length + ops.arange(num_tokens, dtype="int32")
    return length + ops.cumsum(ops.cast(mask, "int32"), axis=1) - 1


def append(cache: Any, key: Any, value: Any, mask: Any = None) -> Any:
    """Return the cache with new tokens behind those of each row.

    Args:
        cache: as described above.
        key: keys of the new tokens, `(B, T, K, D)`.
        value: values of the new tokens, `(B, T, K, E)`.
        mask: boolean `(B, T)`; False for a token that is not stored.
    """
    num_tokens = ops.shape(key)[1]
    if mask is None:
        added = num_tokens * ops.ones_like(cache["length"])
    else:
        added = ops.sum(ops.cast(mask, "int32"), axis=1)  # [B]
        key, value = (_stored_first(x, mask) for x in (key, value))
    slots = ops.arange(ops.shape(cache["key"])[1], dtype="int32")
    source = slots - ops.expand_dims(cache["length"], 1)  # [B, M]
    is_new = ops.logical_and(source >= 0, source < ops.expand_dims(added, 1))
    source = ops.clip(source, 0, num_tokens - 1)
    return {
        **{
            name: ops.where(
                is_new[..., None, None],
                _take_tokens(ops.cast(new, cache[name].dtype), source),
                cache[name],
            )
            for name, new in (("key", key), ("value", value))
        },
        "length": cache["length"] + added,
    }


def check_cache(
    layer: Any, cache: Any, expected: Any, tokens_shape: Any
) -> Any:
    """Check a cache against the layer it is given to and the new tokens.

    Args:
        layer: for the error.
        cache: what was given.
        expected: widths `{"key": (K, D), "value": (K, E)}`.
        tokens_shape: shape of the new tokens, `(B, T, ...)`.

    Raises:
        ValueError: if the cache is another layer's or another batch's, or has
            no room for the tokens, as far as the sizes are known.
    """
    advice = f"Make it with the `initial_cache` of layer '{layer.name}'."
    if not isinstance(cache, dict) or set(cache) != {"key", "value", "length"}:
        raise ValueError(
            "`cache` must be a dictionary of 'key', 'value' and 'length'. "
            f"Received: cache={type(cache).__name__}"
            f"{sorted(cache) if isinstance(cache, dict) else ''}. {advice}"
        )
    batch, num_tokens = tokens_shape[:2]
    for name, widths in expected.items():
        shape = tuple(cache[name].shape)
        if len(shape) != 4 or shape[2:] != widths:
            raise ValueError(
                f"`cache` is of another layer: its '{name}' should have the "
                f"shape (batch, max_length, {widths[0]}, {widths[1]}). "
                f"Received: cache['{name}'] of shape {shape}. {advice}"
            )
        if None not in (batch, shape[0]) and batch != shape[0]:
            raise ValueError(
                "`cache` is of another batch. Received: a cache for "
                f"{shape[0]} rows with a batch of {batch}. {advice}"
            )
        if None not in (num_tokens, shape[1]) and num_tokens > shape[1]:
            raise ValueError(
                f"`cache` is too short. Received: {num_tokens} tokens for a "
                f"cache of {shape[1]}. Give `initial_cache` a larger "
                "`max_length`."
            )


def check_room(cache: Any) -> None:
    """Check that no row of a cache holds more than its slots.

    Only where the lengths are known numbers: not inside a traced graph, where
    tokens beyond the last slot are dropped.

    Raises:
        ValueError: if one does.
    """
    longest = _known_maximum(cache["length"])
    max_length = cache["key"].shape[1]
    if None not in (longest, max_length) and longest > max_length:
        raise ValueError(
            f"`cache` is too short. Received: {longest} tokens for a cache of "
            f"{max_length}. Give `initial_cache` a larger `max_length`."
        )


def _known_maximum(length):
    backend = keras.backend.backend()
    if backend == "tensorflow" and not hasattr(length, "numpy"):
        return None
    if backend == "jax":
        import jax

        if isinstance(length, jax.core.Tracer):
            return None
    return int(keras.ops.convert_to_numpy(length).max(initial=0))


def _stored_first(x, mask):
    """Move the tokens that are not masked to the front, in their order."""
    num_tokens = ops.shape(mask)[1]
    place = ops.arange(num_tokens, dtype="int32")
    order = ops.argsort(ops.where(mask, place, place + num_tokens), axis=1)
    return _take_tokens(x, order)


def _take_tokens(x, index):
    """`(B, T, K, D)` at `(B, M)`: `(B, M, K, D)`."""
    batch, num_tokens, heads, width = ops.shape(x)
    rows = ops.reshape(x, (batch * num_tokens, heads, width))
    first = ops.arange(batch, dtype="int32")[:, None] * num_tokens
    return ops.take(rows, first + ops.cast(index, "int32"), axis=0)
