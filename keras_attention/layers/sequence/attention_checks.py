"""Checks of the arguments of an attention layer's call."""

from typing import Any

from keras import ops

from keras_attention.layers.sequence.attention_inputs import CallArguments
from keras_attention.layers.sequence.input_lists import is_list_of_inputs
from keras_attention.ops.attention import decoding
from keras_attention.ops.attention.masks import bias_mask
from keras_attention.ops.attention.masks import check_scores_shape
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.precision import to_float


def complete_arguments(layer: Any, given: CallArguments) -> CallArguments:
    """Fill in value and key, and what belongs to them, where left out.

    Args:
        layer: The layer that is called.
        given: What `BaseAttention.recall` returned.

    Raises:
        ValueError: For a list in place of a tensor, or a key without value.
    """
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
