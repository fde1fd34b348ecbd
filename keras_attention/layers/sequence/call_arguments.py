"""The arguments of an attention layer's call: as given, checked, complete."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_attention.layers.input_lists import is_list_of_inputs
from keras_attention.ops.attention import decoding
from keras_attention.ops.attention.chunk_plan import larger
from keras_attention.ops.attention.masks import bias_mask
from keras_attention.ops.attention.masks import check_scores_shape
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.precision import to_float


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


def complete_arguments(layer: Any, given: CallArguments) -> CallArguments:
    """Tell a memory from a cache; fill in value and key where left out.

    Args:
        layer: The layer that is called.
        given: The arguments.

    Raises:
        ValueError: For a list in place of a tensor, or a key without value.
    """
    if given.cache is not None:
        given = layer.recall(given)
    query, value, key = given.query, given.value, given.key
    for name, tensor in (("query", query), ("value", value), ("key", key)):
        check_one_tensor(layer, name, tensor)
    if value is None and key is not None:
        raise ValueError(
            f"{type(layer).__name__} needs the values that belong to the "
            "keys. Received: key without value. For self-attention pass "
            "the query alone."
        )
    if value is None:
        given = given.replace(
            value=query,
            value_mask=_first(given.value_mask, given.query_mask),
            key_positions=_first(given.key_positions, given.query_positions),
        )
    return given.replace(key=_first(key, given.value))


def check_arguments(layer: Any, given: CallArguments) -> CallArguments:
    """Check complete arguments; convert those that are not symbolic.

    Args:
        layer: The layer that is called.
        given: What `complete_arguments` returned.

    Returns:
        The arguments as sequences. If they are tensors: integers cast to
        floats, masks as booleans, `key_mask` what `key_mask` and
        `value_mask` both allow, and `attention_mask` without what
        `attention_bias` masks.

    Raises:
        TypeError: For a mask of floats.
        ValueError: For shapes that do not fit.
    """
    given = layer.as_sequences(given)
    query, value, key = given.query, given.value, given.key
    attention_mask = given.attention_mask
    attention_bias = given.attention_bias
    cache = given.cache
    shapes = [tuple(x.shape) for x in (query, key, value)]
    _check_lengths(layer, *shapes)
    masks = {}
    for name, mask, shape in (
        ("query_mask", given.query_mask, shapes[0]),
        ("value_mask", given.value_mask, shapes[2]),
        ("key_mask", given.key_mask, shapes[1]),
    ):
        if mask is not None:
            mask = to_boolean_mask(name, mask)
            check_sequence_mask(name, mask, shape)
        masks[name] = mask
    num_keys = shapes[1][1]
    if cache is not None:
        _check_cache(layer, cache, shapes)
        num_keys = cache["mask"].shape[1]
    heads = layer.num_query_heads(shapes[0])
    scores_shape = (shapes[0][0], heads, shapes[0][1], num_keys)
    if attention_mask is not None:
        attention_mask = to_boolean_mask("attention_mask", attention_mask)
        check_scores_shape("attention_mask", attention_mask.shape, scores_shape)
    if attention_bias is not None:
        attention_bias = ops.convert_to_tensor(attention_bias)
        check_scores_shape("attention_bias", attention_bias.shape, scores_shape)
    if given.is_symbolic:
        return given
    if attention_mask is not None:
        attention_mask = expand_to_heads(
            "attention_mask", attention_mask, scores_shape
        )
    if attention_bias is not None:
        (attention_bias,) = _to_floats(layer, attention_bias)
        attention_bias = expand_to_heads(
            "attention_bias", attention_bias, scores_shape
        )
        attention_mask = combine_masks(
            attention_mask, bias_mask(attention_bias)
        )
    query_mask, value_mask, key_mask = masks.values()
    if given.query_mask is given.value_mask:
        value_mask = query_mask
    if key_mask is not None and key_mask is not value_mask:
        value_mask = combine_masks(value_mask, key_mask)
    query, key, value = _to_floats(layer, query, key, value)
    return given.replace(
        query=query,
        value=value,
        key=key,
        query_mask=query_mask,
        value_mask=value_mask,
        key_mask=value_mask,
        attention_mask=attention_mask,
        attention_bias=attention_bias,
    )


def check_one_tensor(layer: Any, name: str, tensor: Any) -> None:
    """Raise a `ValueError` for a list of tensors or of shapes.

    Args:
        layer: The layer that is called, for the error.
        name: String, name of the argument.
        tensor: Tensor or shape, or `None`.
    """
    if not isinstance(tensor, dict | list | tuple):
        return
    if isinstance(tensor, dict) or is_list_of_inputs(tensor):
        raise ValueError(
            f"{type(layer).__name__} takes query, value and key as "
            "arguments of their own: pass query and value as "
            f"`layer(query, value)`. Received: {name} is a "
            f"{type(tensor).__name__} of {len(tensor)} for layer "
            f"'{layer.name}'"
        )


def check_decodes(layer: Any) -> None:
    """Raise a `ValueError` for a layer that is not causal."""
    if not layer.causal:
        raise ValueError(
            "Decoding step by step equals the full pass only if no token "
            "attends to a later one. Received: causal=False in layer "
            f"'{layer.name}'. Make the layer with `causal=True`."
        )


def _check_lengths(layer, query_shape, key_shape, value_shape):
    layer.check_widths(query_shape, key_shape, value_shape)
    received = (
        f"Received: query of shape {query_shape}, key of shape "
        f"{key_shape}, value of shape {value_shape} for layer "
        f"'{layer.name}'"
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


def _check_cache(layer, cache, shapes):
    check_decodes(layer)
    query_shape, key_shape, _ = shapes
    lengths = query_shape[1], key_shape[1]
    if None not in lengths and lengths[0] != lengths[1]:
        raise ValueError(
            "With a cache, the new tokens are queries and keys at once. "
            f"Received: query of shape {query_shape}, key of shape "
            f"{key_shape}"
        )
    decoding.check_cache(layer, cache, layer.cache_widths(), query_shape)


def _to_floats(layer, *tensors):
    """Cast integers; equal tensors stay one tensor."""
    cast = {id(x): to_float(x, layer.compute_dtype) for x in tensors}
    return [cast[id(x)] for x in tensors]


def _first(tensor, other):
    return other if tensor is None else tensor
