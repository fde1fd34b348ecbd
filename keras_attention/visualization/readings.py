"""Finds gates, scores and filters of a model, and reads them in one call."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import channel_axis
from keras_attention.inspection import gives_scores
from keras_attention.inspection import record_outputs
from keras_attention.inspection import split_name
from keras_attention.inspection import stages
from keras_attention.inspection import walk_layers
from keras_attention.inspection.layer_paths import check_names
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


class Readings(dict):
    """NumPy values by name, the model's outputs, what to do without values."""

    def __init__(self, values: dict[str, np.ndarray], hint: str, outputs: Any):
        super().__init__(values)
        self.hint = hint
        self.outputs = outputs


def read(
    model: keras.Model,
    inputs: Tensor,
    names: Iterable[str],
    optional: Iterable[str] = (),
) -> Readings:
    """Call the model once and return intermediate outputs as NumPy arrays.

    Args:
        model: a Keras model.
        inputs: what it takes.
        names: Names of intermediate outputs that must have a value.
        optional: names that are left out if their layer is not called exactly
            once, or returns something else than one tensor.
    """
    check_names(names)
    names = list(dict.fromkeys(names))
    optional = [name for name in dict.fromkeys(optional) if name not in names]
    what_to_do = hint(model)
    with record_outputs(model, [*names, *optional]) as values:
        outputs = model(inputs, training=False)
    heard = [name for name, _ in values.in_order()]
    if what_to_do and any(heard.count(name) > 1 for name in names):
        # Keras runs some models symbolically first, to build them.
        raise ValueError(f"Model '{model.name}' is not built.{what_to_do}")
    found = {name: values[name] for name in names}
    for name in optional:
        is_masks = split_name(name)[1] == "masks"
        if heard.count(name) == 1 and (
            is_masks or hasattr(values[name], "shape")
        ):
            found[name] = values[name]
    # In the order of the network, not of the names.
    order = {name: n for n, name in enumerate(heard)}
    if optional:
        found = dict(sorted(found.items(), key=lambda item: order[item[0]]))
    arrays = {
        name: _masks_to_numpy(value)
        if split_name(name)[1] == "masks"
        else to_numpy(value)
        for name, value in found.items()
    }
    return Readings(arrays, what_to_do, outputs)


def hint(model: keras.Model) -> str:
    """What to do if a model has no intermediate outputs: it is not built."""
    if model.built:
        return ""
    return (
        " It was never called: call it once first, model(inputs), or start a "
        "Sequential model with a keras.Input."
    )


def check_built(model: keras.Model) -> None:
    """Raise `ValueError` if the model's stages are not known yet."""
    if not model.built:
        raise ValueError(f"Model '{model.name}' is not built.{hint(model)}")


def to_numpy(value: Tensor) -> np.ndarray:
    """A tensor as a NumPy array of at least float32."""
    return keras.ops.convert_to_numpy(widen(value))


def _masks_to_numpy(masks):
    return tuple(
        None if m is None else keras.ops.convert_to_numpy(m).astype(bool)
        for m in masks
    )


def gate_taps(model: keras.Model) -> list[str]:
    """The names of all gates of a model."""
    return [
        f"{path}:gate"
        for path, layer in walk_layers(model)
        if hasattr(layer, "compute_gate")
    ]


def score_taps(model: keras.Model, of_images: bool = False) -> list[str]:
    """The names of the scores of all attention layers for one kind of input."""
    return [
        f"{path}:scores"
        for path, layer in walk_layers(model)
        if gives_scores(layer) and hasattr(layer, "data_format") == of_images
    ]


def filter_layers(model: keras.Model) -> dict[str, Any]:
    """The layers whose filters are normalized weights, by path."""
    return {
        path: layer
        for path, layer in walk_layers(model)
        if hasattr(layer, "compute_filters")
    }


def stage_names(model: keras.Model) -> list[str]:
    """Names of the ends of the model's stages that have image maps."""
    try:
        found = stages(model)
    except ValueError:  # Not built, or built in a manner Keras does not note.
        return []
    return [
        stage.name
        for stage in found
        if len(stage.size) == 2 and max(stage.size) > 1 and stage.calls == 1
    ]


def last_of_each_size(shapes: dict[str, tuple[int, int]]) -> list[str]:
    """Return the last layer of each height and width but a single position."""
    last = {size: name for name, size in shapes.items() if max(size) > 1}
    return [name for name in shapes if name in last.values()]


def image_shape(
    model: keras.Model, tap: str, value: np.ndarray
) -> tuple[int, int]:
    """Height and width of an intermediate output."""
    shape = list(value.shape)
    del shape[channel_axis(model, split_name(tap)[0])]
    return shape[1], shape[2]


def channels_last(
    model: keras.Model, path: str, image: np.ndarray
) -> np.ndarray:
    """The layer's image with its channels at the end."""
    return np.moveaxis(image, channel_axis(model, path), -1)


def input_images(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Images as a model takes them, with their channels at the end."""
    paths = [path for path, _ in walk_layers(model)]
    return channels_last(model, paths[0], images)
