"""Finds the attention layers of a model."""

import re
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras

from keras_attention.inspection.layer_paths import check_layer
from keras_attention.inspection.layer_paths import children


def attention_layers(model: keras.layers.Layer) -> list[Any]:
    """Return the attention layers of a model, at any depth.

    These are the layers of `keras_attention.layers` and of classes derived
    from them, `BlendIn` included, wherever they came from, and the layers of
    other classes that `insert_attention` named after the layer that they
    follow. Nested models and layers are searched; the parts of an attention
    layer are not listed next to it. A layer that is used twice is listed
    once.

    Args:
        model: A Keras model, or a layer with sublayers.

    Returns:
        A list of layers.

    Raises:
        TypeError: If `model` is neither.

    Example:

    Train the attention of a network and nothing else:

    >>> backbone = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(6, 3, name="conv"),
    ...     keras_attention.SqueezeExcite(2, name="se"),
    ... ])
    >>> model = keras.Sequential([backbone, keras.layers.Flatten()])
    >>> for layer in backbone.layers:
    ...     layer.trainable = False
    >>> for layer in attention_layers(model):
    ...     layer.trainable = True
    >>> len(model.trainable_weights)
    4
    """
    return [layer for _, layer in walk_attention_layers(model)]


def walk_attention_layers(
    model: keras.layers.Layer, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Iterate over `(path, layer)` of the layers of `attention_layers`."""
    check_layer(model)
    seen: set[int] = set()
    yield from _walk(model, prefix, seen)


def is_attention_layer(layer: Any, preceding: Iterable[str] = ()) -> bool:
    """Return whether a layer is an attention layer.

    Args:
        layer: A layer or operation.
        preceding: Names of layers that it may follow: a name made from one of
            them by `insert_attention` tells an inserted layer of any class.
    """
    # Looked up and not imported: the layers are built on this package.
    package = sys.modules.get("keras_attention.layers")
    if any(
        getattr(package, base.__name__, None) is base
        for base in type(layer).__mro__
    ):
        return True
    return isinstance(layer, keras.layers.Layer) and is_named_by_insertion(
        layer.name, preceding
    )


def is_named_by_insertion(name: str, preceding: Iterable[str]) -> bool:
    """Return whether `insert_attention` names a layer so after another."""
    return any(
        re.fullmatch(rf"{re.escape(other)}_attention(_\d+)?", name)
        for other in preceding
    )


def _walk(layer, prefix, seen):
    inside = children(layer)
    for number, child in enumerate(inside):
        if id(child) in seen:
            continue
        seen.add(id(child))
        path = prefix + child.name
        before = [each.name for each in inside[:number]]
        if is_attention_layer(child, before):
            yield path, child
        else:
            yield from _walk(child, path + "/", seen)
