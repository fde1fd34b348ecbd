"""Has attention layers use scores that are given instead of their own."""

import dataclasses
import inspect
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_attention.inspection import find_layer
from keras_attention.layers import MultiHeadAttention
from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import padding_mask
from keras_attention.ops.attention.masks import position_mask


@contextmanager
def copied_scores(
    model: keras.Model, scores: Mapping[str, Any]
) -> Iterator[None]:
    """Has attention layers of a model use given scores in this context.

    Where a layer's masks exclude a key, its score is zero; the other scores
    are used as they are.

    Args:
        model: The model. It is as before when the context is left.
        scores: Scores of shape `(batch, heads, queries, keys)` by the name of
            the attention layer.
    """
    layers = [(find_layer(model, name), name) for name in scores]
    for layer, name in layers:
        # Set without Keras' attribute tracking, and deleted again below,
        # which uncovers the class's own method.
        layer.__dict__["call"] = _call_with(layer, name, scores[name])
    try:
        yield
    finally:
        for layer, _ in layers:
            layer.__dict__.pop("call", None)


def can_copy(layer: Any) -> bool:
    """Returns whether a layer's scores can be replaced."""
    if isinstance(layer, MultiHeadAttention):
        return layer.attention_axes is None
    return isinstance(layer, keras.layers.MultiHeadAttention)


def _call_with(layer, name, scores):
    signature = inspect.signature(layer.call)

    def call(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        for part in ("query", "value", "key"):
            if given[part] is not None:
                # Without the mask that it carries, which projections would
                # warn of; Keras has set the mask arguments by it.
                given[part] = ops.add(given[part], 0)
        copied = ops.cast(scores, layer.compute_dtype)
        is_ours = isinstance(layer, MultiHeadAttention)
        attend = _attend_ours if is_ours else _attend_keras
        output, copied = attend(layer, name, copied, given)
        asked = given["return_attention_scores"]
        return (output, copied) if asked else output

    return call


def _attend_ours(layer, name, scores, given):
    if given["cache"] is not None:
        raise ValueError(
            "Attention scores are copied for complete sequences, without a "
            f"cache or memory. Received: cache for layer '{name}'"
        )
    names = {field.name for field in dataclasses.fields(CallArguments)}
    arguments = {key: value for key, value in given.items() if key in names}
    if given["mask"] is not None:
        arguments["query_mask"] = given["mask"]
    inputs = layer.prepare(CallArguments(**arguments))
    by_position = position_mask(
        inputs.query_positions,
        inputs.key_positions,
        inputs.causal,
        inputs.window,
    )  # [T, S]
    mask = combine_masks(
        inputs.mask,
        None if inputs.key_mask is None else padding_mask(inputs.key_mask),
        None if by_position is None else by_position[None, None],
        None
        if inputs.query_mask is None
        else ops.expand_dims(inputs.query_mask, (1, 3)),
    )  # [B, N, T, S], sizes 1 allowed
    values = layer.project_keys(inputs)["value"]  # [B, S, K, E]
    values = ops.repeat(values, layer.num_heads // values.shape[2], axis=2)
    output, scores = _average(name, scores, values, mask)
    if layer.use_gate:
        output = output * layer.gate_dense(inputs.query)
    return layer.output_dense(output), scores


def _attend_keras(layer, name, scores, given):
    query, value = given["query"], given["value"]
    names = ("query", "value", "key", "attention")
    masks = {f"{part}_mask": given[f"{part}_mask"] for part in names}
    mask = layer._compute_attention_mask(
        query, value, use_causal_mask=given["use_causal_mask"], **masks
    )
    if mask is not None:
        mask = ops.cast(mask, "bool")
        mask = ops.expand_dims(mask, 1) if len(mask.shape) == 3 else mask
    output, scores = _average(name, scores, layer._value_dense(value), mask)
    if getattr(layer, "_use_gate", False):
        output = output * layer._gate_dense(query)
    return layer._output_dense(output), scores


def _average(name, scores, values, mask):
    """Average values by scores, of which those that are masked become zero."""
    _check_shape(name, scores, values)
    if mask is not None:
        scores = ops.where(mask, scores, ops.zeros((), dtype=scores.dtype))
    return ops.einsum("bnts,bsne->btne", scores, values), scores


def _check_shape(name, scores, values):
    if scores.shape[1] != values.shape[2] or (
        None not in (scores.shape[3], values.shape[1])
        and scores.shape[3] != values.shape[1]
    ):
        raise ValueError(
            "Copied attention scores must have the heads and keys of the "
            f"student's layer. Received: scores of shape {scores.shape} for "
            f"'{name}' with {values.shape[2]} heads and {values.shape[1]} keys"
        )
