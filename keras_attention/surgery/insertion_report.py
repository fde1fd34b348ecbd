"""Lists what was inserted into a model."""

from dataclasses import dataclass

import keras

from keras_attention.inspection.graph import graph_nodes
from keras_attention.inspection.graph import nested_graphs
from keras_attention.inspection.layer_list import format_table
from keras_attention.layers.blend_in import BlendIn
from keras_attention.surgery.attention_sites import check_graph


@dataclass(frozen=True)
class InsertedLayer:
    """A layer that was inserted into a model.

    Attributes:
        name: Its path, such as `"backbone/conv1_attention"`.
        layer: Name of its class; for a `BlendIn` that of the layer inside.
        shape: Shape of its output.
        parameters: Number of its parameters.
    """

    name: str
    layer: str
    shape: tuple
    parameters: int


@dataclass(frozen=True)
class InsertionReport:
    """What was inserted into a model; prints as a table.

    Attributes:
        layers: The layers that were inserted.
        parameters_before: Number of parameters of the original model.
        parameters_after: Number of parameters of the new model.
    """

    layers: tuple[InsertedLayer, ...]
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        rows = [("inserted", "layer", "shape", "parameters")]
        rows += [
            (new.name, new.layer, str(new.shape), f"{new.parameters:,}")
            for new in self.layers
        ]
        before, after = self.parameters_before, self.parameters_after
        return (
            f"{format_table(rows)}\n{len(self.layers)} layers inserted; "
            f"parameters: {before:,} before, {after:,} after "
            f"({(after - before) / max(before, 1):+.2%})"
        )


def insertion_report(
    original: keras.Model, changed: keras.Model
) -> InsertionReport:
    """Compare a model with one that was made of it by `insert_attention`.

    Args:
        original: The model before the insertion.
        changed: The model after it. Both may have been saved and loaded.

    Returns:
        An `InsertionReport`: the layers that are new, by name, and the
        parameters before and after.

    Example:

    >>> from keras_attention.models import WideResNet
    >>> model = WideResNet(10, 1, input_shape=(8, 8, 3))
    >>> gated = keras_attention.insert_attention(
    ...     model, "squeeze_excite", at=["stage1", "stage2"]
    ... )
    >>> print(keras_attention.insertion_report(model, gated))
    inserted          layer          shape             parameters
    stage1_attention  SqueezeExcite  (None, 8, 8, 16)  49
    stage2_attention  SqueezeExcite  (None, 4, 4, 32)  162
    2 layers inserted; parameters: ... before, ... after (...)
    """
    for model in (original, changed):
        check_graph(model)
    known = {path for path, _ in _calls(original)}
    new: dict[str, InsertedLayer] = {}
    for path, node in _calls(changed):
        layer = node.operation
        if path not in known and isinstance(layer, keras.layers.Layer):
            inner = layer.layer if isinstance(layer, BlendIn) else layer
            new[path] = InsertedLayer(
                path,
                type(inner).__name__,
                tuple(node.outputs[0].shape),
                layer.count_params(),
            )
    return InsertionReport(
        tuple(new.values()), original.count_params(), changed.count_params()
    )


def _calls(model):
    """`(path of the layer, node)` for every call in a model."""
    for prefix, graph in nested_graphs(model):
        for node in graph_nodes(graph):
            yield prefix + node.operation.name, node
