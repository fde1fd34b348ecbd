"""Has attention layers use scores that are given instead of their own."""

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_attention.inspection import find_layer
from keras_attention.layers import MultiHeadAttention


@contextmanager
def copied_scores(
    model: keras.Model, scores: Mapping[str, Any]
) -> Iterator[None]:
    """Has attention layers of a model use given scores in this context.

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
    def call(
        query, value=None, key=None, return_attention_scores=False, **kwargs
    ):
        # Without the masks that they carry, which projections would warn of.
        query = ops.add(query, 0)
        value = query if value is None else ops.add(value, 0)
        key = None if key is None else ops.add(key, 0)
        given = ops.cast(scores, layer.compute_dtype)
        if isinstance(layer, MultiHeadAttention):
            inputs = layer.prepare(query, value, key, *[None] * 6)
            values = layer.project_keys(inputs)["value"]  # [B, S, K, E]
            values = ops.repeat(
                values, layer.num_heads // values.shape[2], axis=2
            )
            output = _average(name, given, values)
            if layer.use_gate:
                output = output * layer.gate_dense(inputs.query)
            output = layer.output_dense(output)
        else:
            values = layer._value_dense(value)
            output = layer._output_dense(_average(name, given, values))
        return (output, given) if return_attention_scores else output

    return call


def _average(name, scores, values):
    _check_shape(name, scores, values)
    return ops.einsum("bnts,bsne->btne", scores, values)


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
