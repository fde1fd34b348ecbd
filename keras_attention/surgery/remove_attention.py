"""Removes attention from a model."""

import warnings

import keras

from keras_attention.inspection.attention_layers import is_named_by_insertion
from keras_attention.inspection.attention_layers import walk_attention_layers
from keras_attention.inspection.graph import graph_nodes
from keras_attention.inspection.graph import is_graph
from keras_attention.inspection.graph import nested_graphs
from keras_attention.layers.blend_in import BlendIn
from keras_attention.layers.vision.attention_gate import AttentionGate
from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.surgery.attention_sites import check_graph
from keras_attention.surgery.rebuild import rebuild


def remove_attention(model: keras.Model) -> keras.Model:
    """Return a new model without the attention layers of this one.

    The image layers of this package and `BlendIn` are removed, wherever they
    came from, one inside a `keras.layers.TimeDistributed` included, and any
    layer that `insert_attention` added, told by its name. A layer that changes
    the shape of its input stays, since what follows needs it. So does one
    inside another layer that is not a functional or Sequential model, of which
    a warning tells. The new model has weights of its own, as with
    `insert_attention`.

    Args:
        model: A functional or Sequential model; nested models are entered.

    Returns:
        A new model.

    Raises:
        TypeError, ValueError: If the model has no graph or cannot be rebuilt,
            or if there is no attention in it.

    Example:

    >>> from keras_attention.models import ResNet
    >>> model = ResNet(18, "squeeze_excite", input_shape=(32, 32, 3))
    >>> plain = keras_attention.remove_attention(model)
    >>> model.count_params() - plain.count_params()
    89080
    """
    check_graph(model)
    removed, kept = set(), []
    for prefix, graph in nested_graphs(model):
        removed |= _attention_nodes(graph)
        kept += _inside_layers(graph, prefix)
    stays = (
        "Attention stays inside layers that are not functional or Sequential "
        f"models: {', '.join(map(repr, kept))}"
    )
    if not removed:
        raise ValueError(
            "There is no attention to remove. Received: model "
            f"'{model.name}', without an image layer of keras_attention and "
            "without a layer that `insert_attention` named"
            + (f" in its graph. {stays}" if kept else "")
        )
    if kept:
        warnings.warn(stays, stacklevel=2)
    return rebuild(model, removed=removed)


def _inside_layers(graph, prefix):
    """The paths of image layers inside layers that are not graphs."""
    paths = []
    for layer in dict.fromkeys(node.operation for node in graph_nodes(graph)):
        if is_graph(layer) or not isinstance(layer, keras.layers.Layer):
            continue
        if not isinstance(_unwrap(layer), BlendIn | BaseImageLayer):
            paths += [
                path
                for path, inner in walk_attention_layers(
                    layer, f"{prefix}{layer.name}/"
                )
                if isinstance(inner, BlendIn | BaseImageLayer)
            ]
    return paths


def _unwrap(layer):
    """The layer that a `TimeDistributed` applies to each of its steps."""
    while isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    return layer


def _attention_nodes(graph):
    """The calls of attention layers, by identity."""
    removed = set()
    # The layers that a tensor comes from, back to one that stays.
    names: dict[int, list[str]] = {}
    for node in graph_nodes(graph):
        before = []
        if len(node.input_tensors) == 1:
            before = names[id(node.input_tensors[0])]
        found = [node.operation.name]
        if _is_attention(node, before):
            removed.add(id(node))
            found += before
        names |= {id(tensor): found for tensor in node.outputs}
    return removed


def _is_attention(node, before):
    layer = _unwrap(node.operation)
    # The second input of a gate is its signal.
    most = 2 if isinstance(layer, BlendIn | AttentionGate) else 1
    if not 1 <= len(node.input_tensors) <= most or len(node.outputs) != 1:
        return False
    if node.input_tensors[0].shape != node.outputs[0].shape:
        return False
    return isinstance(layer, BlendIn | BaseImageLayer) or (
        isinstance(node.operation, keras.layers.Layer)
        and is_named_by_insertion(node.operation.name, before)
    )
