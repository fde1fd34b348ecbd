"""Finds what there is to see in a model, and reads it in one pass."""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_attention.ops.precision import widen
from keras_attention.taps import children
from keras_attention.taps import find_layer
from keras_attention.taps import gives_scores
from keras_attention.taps import record_taps
from keras_attention.taps import split_tap
from keras_attention.taps import walk_layers


class Readings(dict):
    """NumPy values by tap, and what to do if there are none."""

    def __init__(self, values: dict[str, np.ndarray], hint: str):
        super().__init__(values)
        self.hint = hint


def read(
    model: keras.Model,
    inputs: Any,
    taps: Iterable[str],
    optional: Iterable[str] = (),
) -> Readings:
    """Call the model once and return what the taps caught, as NumPy arrays.

    Args:
        model: a Keras model.
        inputs: what it takes.
        taps: names that must have a value.
        optional: names that are left out if their layer is not called exactly
            once, or returns something else than one tensor.
    """
    taps = list(dict.fromkeys(taps))
    optional = [tap for tap in dict.fromkeys(optional) if tap not in taps]
    what_to_do = hint(model)
    with record_taps(model, [*taps, *optional]) as values:
        model(inputs, training=False)
    heard = [tap for tap, _ in values.in_order()]
    if what_to_do and any(heard.count(tap) > 1 for tap in taps):
        # Keras runs some models symbolically first, to build them.
        raise ValueError(f"Model '{model.name}' is not built.{what_to_do}")
    found = {tap: values[tap] for tap in taps}
    for tap in optional:
        if heard.count(tap) == 1 and hasattr(values[tap], "shape"):
            found[tap] = values[tap]
    # In the order of the network, not of the names.
    order = {tap: n for n, tap in enumerate(heard)}
    if optional:
        found = dict(sorted(found.items(), key=lambda item: order[item[0]]))
    arrays = {tap: to_numpy(value) for tap, value in found.items()}
    return Readings(arrays, what_to_do)


def hint(model: keras.Model) -> str:
    """What to do if a model has nothing to see, because it is not built."""
    return "" if model.built else " It was never called: call it once first."


def to_numpy(value: Any) -> np.ndarray:
    """A tensor as a NumPy array of at least float32."""
    return keras.ops.convert_to_numpy(widen(value))


def gate_taps(model: keras.Model) -> list[str]:
    """The taps of all gates of a model."""
    return [
        f"{path}:gate"
        for path, layer in walk_layers(model)
        if hasattr(layer, "compute_gate")
    ]


def score_taps(model: keras.Model, of_images: bool = False) -> list[str]:
    """The taps of the scores of all attention layers, of one kind of input."""
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


def image_taps(model: keras.Model) -> list[str]:
    """Layers whose outputs may be drawn when nobody has named any.

    In a functional model those that every later layer's input has come
    through, so that the inside of a residual block is left out; in another
    model the layers that stand directly in it.
    """
    return [path for path, _ in _image_taps(model, "")]


def block_ends(model: keras.Model) -> set[str]:
    """Of `image_taps`, those where branches end, and their activations."""
    return {path for path, is_end in _image_taps(model, "") if is_end}


def ends_of_resolutions(
    shapes: dict[str, tuple[int, int]], preferred: Iterable[str] = ()
) -> list[str]:
    """Of the layers in their order, the last of each height and width.

    A single position is no map, and left out. Of a size that has some of the
    `preferred`, it is the last of them.
    """
    last: dict[tuple[int, int], str] = {}
    for tap, size in shapes.items():
        there = last.get(size)
        if max(size) > 1 and (tap in preferred or there not in preferred):
            last[size] = tap
    return [tap for tap in shapes if tap in last.values()]


def channel_axis(model: keras.Model, path: str) -> int:
    """The axis of the channels in a layer's image."""
    layers = [find_layer(model, path)]
    layers += [layer for _, layer in walk_layers(model)]
    formats = [getattr(layer, "data_format", None) for layer in layers]
    formats += [keras.config.image_data_format()]
    first = next(each for each in formats if each)
    return 1 if first == "channels_first" else -1


def image_shape(
    model: keras.Model, tap: str, value: np.ndarray
) -> tuple[int, int]:
    """Height and width of a tap's image."""
    shape = list(value.shape)
    del shape[channel_axis(model, split_tap(tap)[0])]
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


def _image_taps(model: Any, prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield `(path, whether branches end there)`."""
    operations = children(model)
    chosen, ends = _bottlenecks(operations)
    for n, operation in enumerate(operations):
        path = prefix + operation.name
        if isinstance(operation, keras.Model):
            yield from _image_taps(operation, path + "/")
        elif n in chosen and not isinstance(operation, keras.layers.InputLayer):
            yield path, n in ends


def _bottlenecks(operations: list[Any]) -> tuple[set[int], set[int]]:
    """Which operations have no way past them, and which of them end branches.

    All and none, if there is no graph.
    """
    makers: dict[int, int] = {}
    last_use = list(range(len(operations)))
    ends = set()
    for n, operation in enumerate(operations):
        try:
            inputs = keras.tree.flatten(operation.input)
            outputs = keras.tree.flatten(operation.output)
        except (AttributeError, ValueError):
            return set(range(len(operations))), set()
        sources = {makers[id(x)] for x in inputs if id(x) in makers}
        for source in sources:
            last_use[source] = n
        makers.update((id(tensor), n) for tensor in outputs)
        if len(sources) > 1 or _is_activation(operation) and sources <= ends:
            ends.add(n)
    chosen, open_until = set(), 0
    for n, use in enumerate(last_use):
        if open_until <= n:
            chosen.add(n)
        open_until = max(open_until, use)
    return chosen, ends & chosen


def _is_activation(operation):
    kinds = (keras.layers.Activation, keras.layers.ReLU, keras.layers.Identity)
    return isinstance(operation, kinds)
