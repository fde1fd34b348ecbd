"""Finds layers in a model by their paths, such as `"backbone/stage1"`."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_attention.validation import nearest


def walk_layers(
    model: keras.layers.Layer, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Iterate over `(path, layer)` of every layer of a model, at any depth.

    Operations of a functional model that are not layers, such as the sum that
    `a + b` leaves in its graph, are among them.

    Args:
        model: A Keras model, or a layer with sublayers.
        prefix: Text to put in front of each path. Defaults to `""`.

    Yields:
        Tuples `(path, layer)`; sublayers follow their layer.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 6)),
    ...     keras_attention.SqueezeExcite(2, name="se"),
    ... ], name="model")
    >>> [path for path, _ in walk_layers(model)][1:]
    ['se', 'se/reduce', 'se/expand']
    """
    check_layer(model)
    yield from _walk(model, prefix)


def check_path(path: Any) -> None:
    """Raise a `TypeError` unless `path` is a string."""
    if not isinstance(path, str):
        raise TypeError(
            "The path of a layer must be a string, such as "
            f"'backbone/stage1'. Received: {path!r} (of type "
            f"{type(path).__name__})"
        )


def check_names(names: Any) -> None:
    """Raise a `TypeError` for one name where a list of them is expected."""
    if isinstance(names, str):
        raise TypeError(
            "Layers must be given as a list of names. "
            f"Received: {names!r}, one string. One layer is [{names!r}]."
        )


def find_layer(model: keras.layers.Layer, path: str) -> Any:
    """Return the layer at a path such as `"backbone/stage1"`.

    Args:
        model: A Keras model, or a layer with sublayers.
        path: Names of the nested models and layers around the layer and its
            own name, joined by `/`.

    Returns:
        The layer or operation.

    Raises:
        TypeError: If the path is not a string.
        ValueError: If there is none; the nearest paths are offered.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 6)),
    ...     keras_attention.SqueezeExcite(2, name="se"),
    ... ])
    >>> find_layer(model, "se/reduce").units
    3
    """
    layer = model
    check_path(path)
    for name in path.split("/"):
        found = [child for child in children(layer) if child.name == name]
        if not found:
            paths = [known for known, _ in walk_layers(model)]
            last = path.rsplit("/", 1)[-1]
            deeper = [p for p in paths if p.rsplit("/", 1)[-1] == last]
            hint = (
                " Did you mean " + " or ".join(map(repr, deeper[:3])) + "?"
                if deeper
                else nearest(path, paths)
            )
            raise ValueError(
                f"No layer has this name in model '{model.name}'. "
                f"Received: '{path}'.{hint} `walk_layers(model)` lists all."
            )
        layer = found[0]
    return layer


def check_layer(model: Any) -> None:
    """Raise `TypeError` unless `model` is a Keras model or layer."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a Keras model or a layer; a file is loaded by "
            "`keras_attention.load_model(path)`. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )


def children(layer: Any) -> list[Any]:
    """Return the layers and operations directly inside a layer or model."""
    operations = getattr(layer, "operations", None)
    if operations is not None:
        return list(operations)
    if isinstance(layer, keras.layers.Layer):
        return list(layer._flatten_layers(include_self=False, recursive=False))
    return []


def channel_axis(model: keras.layers.Layer, path: str | None = None) -> int:
    """Return the axis of the channels of the feature maps inside a model.

    Args:
        model: A Keras model, or a layer with sublayers.
        path: Path of the layer whose output is meant; its own `data_format`
            comes first. Defaults to `None`, the model's first layer with a
            `data_format`.

    Returns:
        1 for `"channels_first"` and -1 for `"channels_last"`.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((3, 8, 8)),
    ...     keras.layers.AveragePooling2D(2, data_format="channels_first"),
    ... ])
    >>> channel_axis(model)
    1
    """
    layers = [model] if path is None else [find_layer(model, path)]
    layers += [layer for _, layer in walk_layers(model)]
    formats = [getattr(layer, "data_format", None) for layer in layers]
    formats.append(keras.config.image_data_format())
    first = next(each for each in formats if each)
    return 1 if first == "channels_first" else -1


def _walk(layer, prefix):
    for child in children(layer):
        path = prefix + child.name
        yield path, child
        yield from _walk(child, path + "/")
