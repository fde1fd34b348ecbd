"""The memory of step-by-step decoding: keys and values of the tokens so far.

A cache is a dictionary of tensors, so it goes through `tf.function`,
`tf.while_loop` and `jax.jit` as it is:

    key     (B, M, K, D)   one slot for each token, M in all
    value   (B, M, K, E)
    mask    (B, M)         which slots hold a token that is not masked
    length  (B,)           slots that each row of the batch has filled so far

A layer that keeps something else of its tokens has other names for the first
two.

A masked token takes a slot as well: the tokens around it keep their distance,
and decoding in steps of any size equals one pass over the whole sequence.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.compilation import is_traced
from keras_attention.types import DTypeLike
from keras_attention.types import Shape
from keras_attention.types import Tensor


def empty_cache(
    batch_size: int,
    max_length: int,
    widths: dict[str, tuple[int, ...]],
    dtype: DTypeLike,
) -> dict[str, Any]:
    """Returns a cache that holds no token yet.

    Args:
        batch_size: Integer, rows of the batch.
        max_length: Integer M, slots of a row.
        widths: What is kept of a token, by name: the shape after `(B, M)`.
        dtype: Dtype of what is kept.
    """
    shape = (batch_size, max_length)
    kept = {
        name: ops.zeros((*shape, *width), dtype)
        for name, width in widths.items()
    }
    return {
        **kept,
        "mask": ops.zeros(shape, "bool"),
        "length": ops.zeros((batch_size,), "int32"),
    }


def token_positions(cache: dict[str, Any], num_tokens: Any) -> Any:
    """Returns the slot of each new token, `(B, T)`."""
    length = ops.expand_dims(ops.cast(cache["length"], "int32"), 1)
    return length + ops.arange(num_tokens, dtype="int32")


def append(
    cache: dict[str, Any],
    tokens: dict[str, Tensor],
    mask: Tensor | None = None,
) -> dict[str, Any]:
    """Returns the cache with new tokens after those of each row.

    Slots without a token may hold anything: they become zeros.

    Args:
        cache: Dictionary of tensors, as described above.
        tokens: What is kept of the new tokens, by name: `(B, T, ...)`.
        mask: Boolean tensor `(B, T)`, `False` for masked tokens. Defaults to
            `None`, no masked token.
    """
    batch, num_tokens = ops.shape(next(iter(tokens.values())))[:2]
    if mask is None:
        mask = ops.ones((batch, num_tokens), "bool")
    length = ops.cast(cache["length"], "int32")
    slots = ops.arange(ops.shape(cache["mask"])[1], dtype="int32")
    source = slots - ops.expand_dims(length, 1)  # [B, M]
    is_new = ops.logical_and(source >= 0, source < num_tokens)
    is_old = ops.logical_and(source < 0, ops.cast(cache["mask"], "bool"))
    source = ops.maximum(ops.minimum(source, num_tokens - 1), 0)

    def write(name, new):
        old = replace_masked(ops.convert_to_tensor(cache[name]), is_old)
        if 0 in new.shape[:2]:
            return old
        chosen = ops.reshape(
            is_new, (*ops.shape(is_new), *[1] * (len(new.shape) - 2))
        )
        new = ops.cast(new, old.dtype)
        if ops.is_tensor(num_tokens):
            # Something to gather, where a step turns out to have no tokens.
            more = ops.maximum(1 - num_tokens, 0)
            rest = [(0, 0)] * (len(new.shape) - 2)
            new = ops.pad(new, [(0, 0), (0, more), *rest])
        return ops.where(chosen, _take_tokens(new, source), old)

    return {
        **{name: write(name, new) for name, new in tokens.items()},
        "mask": write("mask", mask),
        "length": length + num_tokens,
    }


def check_memory(
    layer: Any, memory: Any, expected: dict[str, Any], query_shape: Shape
) -> None:
    """Checks a memory against the layer it is given to and the queries.

    Args:
        layer: Layer, for the error.
        memory: What was given.
        expected: What is kept of a token, by name: the shape after `(B, S)`.
        query_shape: Shape of the queries, `(B, T, ...)`.

    Raises:
        ValueError: If the memory is another layer's or another batch's.
    """
    advice = f"Make it with the `encode_memory` of layer '{layer.name}'."
    names = [*expected, "mask"]
    if set(memory) != set(names):
        raise ValueError(
            f"`cache` must be a dictionary of {', '.join(map(repr, names))} if "
            f"it is a memory. Received: {sorted(memory)}. {advice}"
        )
    length = memory["mask"].shape[1]
    shapes = {name: (None, length, *width) for name, width in expected.items()}
    _check_shapes(
        memory, {**shapes, "mask": (None, length)}, query_shape[0], advice
    )


def check_cache(
    layer: Any, cache: Any, expected: dict[str, Any], tokens_shape: Shape
) -> None:
    """Checks a cache against the layer it is given to and the new tokens.

    Args:
        layer: Layer, for the error.
        cache: What was given.
        expected: What is kept of a token, by name: the shape after `(B, M)`.
        tokens_shape: Shape of the new tokens, `(B, T, ...)`.

    Raises:
        ValueError: If the cache is another layer's or another batch's, or has
            too few free positions, as far as the sizes are known.
    """
    advice = f"Make it with the `initial_cache` of layer '{layer.name}'."
    names = [*expected, "mask", "length"]
    if not isinstance(cache, dict) or set(cache) != set(names):
        listed = ", ".join(map(repr, names[:-1]))
        raise ValueError(
            f"`cache` must be a dictionary of {listed} and "
            f"'length'. Received: cache={type(cache).__name__}"
            f"{sorted(cache) if isinstance(cache, dict) else ''}. {advice}"
        )
    batch, num_tokens = tokens_shape[:2]
    max_length = cache["mask"].shape[1]
    shapes = {
        **{
            name: (None, max_length, *width) for name, width in expected.items()
        },
        "mask": (None, max_length),
        "length": (None,),
    }
    _check_shapes(cache, shapes, batch, advice)
    if None not in (num_tokens, max_length) and num_tokens > max_length:
        raise ValueError(
            f"`cache` is too short. Received: {num_tokens} tokens for a "
            f"cache of {max_length}. Give `initial_cache` a larger "
            "`max_length`."
        )


def _check_shapes(cache, shapes, batch, advice):
    for name, wanted in shapes.items():
        shape = tuple(cache[name].shape)
        fits = len(shape) == len(wanted) and all(
            None in pair or pair[0] == pair[1]
            for pair in zip(shape, wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                f"`cache` is of another layer: its '{name}' must have the "
                f"shape {wanted}. Received: cache['{name}'] of shape {shape}. "
                f"{advice}"
            )
        if _differ(batch, shape[0]):
            raise ValueError(
                f"`cache` is of another batch. Received: a cache for "
                f"{shape[0]} rows with a batch of {batch}. {advice}"
            )


def check_room(cache: dict[str, Any], *outputs: Tensor | None) -> Any:
    """Returns `outputs`, unless a row of the cache holds more than its slots.

    Where the lengths are known numbers, that is an error. So it is while a
    TensorFlow graph runs. What XLA compiles cannot raise: on JAX, and under
    `jit_compile` on TensorFlow, the output of such a row is NaN.

    Args:
        cache: The cache, the new tokens included.
        *outputs: Float tensors with the rows as their first axis, or `None`.

    Raises:
        ValueError: If a row is too long.
    """
    length, max_length = cache["length"], ops.shape(cache["mask"])[1]
    advice = "Give `initial_cache` a larger `max_length`."
    if not is_traced(length):
        longest = int(keras.ops.convert_to_numpy(length).max(initial=0))
        if longest > max_length:
            raise ValueError(
                f"`cache` is too short. Received: {longest} tokens for a "
                f"cache of {max_length}. {advice}"
            )
        return outputs
    if keras.backend.backend() == "tensorflow" and not inside_xla():
        import tensorflow as tf

        tf.debugging.assert_less_equal(
            length,
            max_length,
            message=f"`cache` is too short: it holds more tokens than it has "
            f"slots. {advice}",
        )
    fits = length <= max_length
    return tuple(
        None if output is None else _nan_unless(fits, output)
        for output in outputs
    )


def _nan_unless(fits, output):
    fits = ops.reshape(fits, (-1, *[1] * (len(output.shape) - 1)))
    return ops.where(fits, output, ops.cast(float("nan"), output.dtype))


def _differ(size, other):
    return size is not None and other is not None and size != other


def _take_tokens(x, index):
    """`(B, T, ...)` at `(B, M)`: `(B, M, ...)`."""
    batch, num_tokens, *rest = ops.shape(x)
    rows = ops.reshape(x, (batch * num_tokens, *rest))
    first = ops.arange(batch, dtype="int32")[:, None] * num_tokens
    return ops.take(rows, first + index, axis=0)
