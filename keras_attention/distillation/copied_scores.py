"""Has attention layers use scores that are given instead of their own."""

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_attention.inspection import find_layer


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
    return hasattr(layer, "project_inputs") or isinstance(
        layer, keras.layers.MultiHeadAttention
    )


def _call_with(layer, name, scores):
    def call(
        query, value=None, key=None, return_attention_scores=False, **kwargs
    ):
        value = query if value is None else value
        given = ops.cast(scores, layer.compute_dtype)
        values = _values(layer, query, value, key)  # [B, S, N, E]
        _check_shape(name, given, values)
        output = ops.einsum("bnts,bsne->btne", given, values)
        if hasattr(layer, "project_inputs"):
            output = layer.project_output(output)
        else:
            output = layer._output_dense(output)
        return (output, given) if return_attention_scores else output

    return call


def _values(layer, query, value, key):
    if not hasattr(layer, "project_inputs"):
        # Without the mask, which `value` would warn of.
        return layer._value_dense(ops.add(value, 0))
    inputs = layer.prepare(query, value, key, *[None] * 6)
    _, _, values = layer.project_inputs(inputs)
    groups = layer.num_heads // values.shape[2]
    return ops.repeat(values, groups, axis=2) if groups > 1 else values


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
