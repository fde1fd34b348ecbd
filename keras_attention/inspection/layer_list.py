"""Lists the layers of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.inspection.graph import flatten_graph
from keras_attention.inspection.graph import is_graph
from keras_attention.inspection.layer_outputs import layer_outputs
from keras_attention.inspection.layer_paths import walk_layers
from keras_attention.inspection.stages import stages
from keras_attention.inspection.structure import find_stages


@dataclass(frozen=True)
class LayerSummary:
    """A layer or operation of a model.

    Attributes:
        path: Its path, such as `"backbone/conv1"`.
        type: Name of its class.
        shape: Shape of its output, `None` for an open size; a tuple of shapes
            for several outputs; `None` if it is not known.
        parameters: Number of its parameters, those of sublayers included.
        stage: Number of its stage, from 1; `None` in the stem and after the
            last stage.
        is_stage_end: Whether its output is the end of that stage.
    """

    path: str
    type: str
    shape: tuple | None
    parameters: int
    stage: int | None
    is_stage_end: bool


class LayerList(tuple):
    """Layers in the order of the model; printed, they are a table."""

    def __str__(self) -> str:
        rows = [("layer", "type", "output shape", "parameters", "stage")]
        rows += [
            (
                row.path,
                row.type,
                "" if row.shape is None else str(row.shape),
                f"{row.parameters:,}",
                f"{row.stage or ''}{' (end)' * row.is_stage_end}",
            )
            for row in self
        ]
        return format_table(rows)


def list_layers(model: keras.Model) -> LayerList:
    """List the layers of a model with shapes, parameters and stages.

    The paths are those that `insert_attention`, `record_outputs`, attention
    transfer and the figures take. Layers at any depth are listed, and the
    operations of a functional model that are not layers.

    Args:
        model: A built model.

    Returns:
        A tuple of `LayerSummary`s, which prints as a table.

    Raises:
        ValueError: If the model is not built.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3), name="image"),
    ...     keras.layers.Conv2D(6, 3, name="conv"),
    ...     keras_attention.SqueezeExcite(2, name="se"),
    ...     keras.layers.MaxPooling2D(name="pool"),
    ... ])
    >>> print(list_layers(model))
    layer      type           output shape     parameters  stage
    image      InputLayer     (None, 8, 8, 3)  0
    conv       Conv2D         (None, 6, 6, 6)  168         1
    se         SqueezeExcite  (None, 6, 6, 6)  45          1 (end)
    se/reduce  Dense          (None, 3)        21          1
    se/expand  Dense          (None, 6)        24          1
    pool       MaxPooling2D   (None, 3, 3, 6)  0
    """
    traced = {out.name: out.shape for out in layer_outputs(model)}
    numbers, ends = _numbers(model, traced)
    return LayerList(
        LayerSummary(
            path,
            type(layer).__name__,
            _shape(layer, traced.get(path)),
            layer.count_params() if _is_built(layer) else 0,
            _number(path, numbers),
            path in ends,
        )
        for path, layer in walk_layers(model)
    )


def format_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return columns of text, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _numbers(model, traced):
    """The stage of each call by its path, and the paths of the ends."""
    if is_graph(model):
        graph = flatten_graph(model)
        found = find_stages(graph)
        ends = [step.path for step in found]
        stem = {
            step.path
            for step in graph.steps
            if found
            and step.is_map
            and not (step.convolved and step.segment == found[0].segment)
        }
        order = [step.path for step in graph.steps]
    else:
        found = stages(model)
        ends = [stage.name for stage in found]
        first = traced[ends[0]] if ends else None
        stem = {name for name, shape in traced.items() if shape != first}
        order = list(traced)
    numbers: dict[str, int | None] = {}
    number = 1
    for path in order:
        if number > len(ends):
            break
        if number > 1 or path not in stem:
            numbers.setdefault(path, number)
        number += path == ends[number - 1]
    return numbers, set(ends)


def _number(path, numbers):
    """The stage of a layer, or of the layer around it."""
    while path not in numbers and "/" in path:
        path = path.rsplit("/", 1)[0]
    return numbers.get(path)


def _is_built(layer):
    return isinstance(layer, keras.layers.Layer) and layer.built


def _shape(layer, traced) -> Any:
    try:
        shapes = [
            tuple(tensor.shape) for tensor in keras.tree.flatten(layer.output)
        ]
    except (AttributeError, ValueError):
        return None if traced is None else (None, *traced[1:])
    return shapes[0] if len(shapes) == 1 else tuple(shapes)
