"""A model's graph, laid flat: nested models are read as if written out.

Keras keeps a graph as nodes: one for each call of a layer or operation. A
`Step` is such a node seen from the outermost model, with what comes before
and after it across the borders of nested models, and with what the search for
places needs to know of its output: is it an image, and at which resolution.
"""

import math
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
from keras import layers


@dataclass(eq=False)
class Step:
    """One call of a layer or operation.

    Attributes:
        operation: the layer or operation that is called.
        node: Keras' record of the call.
        owner: the model, outermost or nested, whose graph the call is in.
        name: path of the operation, such as `"backbone/conv1"`.
        parents: the steps that it takes its tensors from.
        consumers: the steps that take its output.
        is_output: whether its output is an output of the outermost model.
        data_format: of the image it gives.
        is_image: it gives one image, and not one squeezed to a single pixel.
        size: height and width of that image; they may be `None`.
        level: binary logarithm of the factor by which it was made smaller.
        convolved: a layer with kernels has been at work at this level.
    """

    operation: Any
    node: Any
    owner: Any
    name: str
    parents: list["Step"]
    consumers: list["Step"] = field(default_factory=list)
    is_output: bool = False
    data_format: str = "channels_last"
    is_image: bool = False
    size: tuple = (None, None)
    level: int = 0
    convolved: bool = False

    @property
    def shape(self) -> tuple:
        return tuple(self.node.outputs[0].shape)

    @property
    def has_kernel(self) -> bool:
        variables = getattr(self.operation, "variables", ())
        return any(len(variable.shape) >= 2 for variable in variables)


def is_graph(layer: Any) -> bool:
    """Whether `layer` is a model that its graph describes in full.

    A functional model whose class has a `call` of its own may do something
    else than its graph says.
    """
    if isinstance(layer, keras.Sequential):
        return layer.built and bool(layer._functional)
    functional = [
        base for base in type(layer).__mro__ if base.__name__ == "Functional"
    ]
    return bool(functional) and type(layer).call is functional[0].call


def graph_nodes(model: keras.Model) -> list[Any]:
    """The calls that a model's outputs need, each after those it needs."""
    ordered, finished = [], set()
    stack = [_node_of(tensor) for tensor in reversed(model.outputs)]
    while stack:
        node = stack[-1]
        parents = [] if node.is_input else map(_node_of, node.input_tensors)
        missing = [p for p in parents if id(p) not in finished]
        if missing:
            stack += reversed(missing)
            continue
        stack.pop()
        if id(node) not in finished:
            finished.add(id(node))
            ordered.append(node)
    return ordered


def nested_graphs(model: keras.Model) -> list[tuple[str, keras.Model]]:
    """`(prefix of its layers' names, model)` for a model and those inside."""
    found = {id(model): ("", model)}
    queue = [("", model)]
    for prefix, outer in queue:
        for node in graph_nodes(outer):
            inner = node.operation
            if is_graph(inner) and id(inner) not in found:
                found[id(inner)] = (f"{prefix}{inner.name}/", inner)
                queue.append(found[id(inner)])
    return list(found.values())


@dataclass
class FlatGraph:
    """The steps of a model in the order of computation.

    Attributes:
        steps: calls of operations that are no nested graphs.
        models: calls of nested graphs, which the steps pass through.
    """

    steps: list[Step]
    models: list[Step]


def flatten_graph(model: keras.Model) -> FlatGraph:
    """Lay the graph of a model flat."""
    flat = FlatGraph([], [])
    for step in _walk(model, "", None, flat):
        step.is_output = True
    for step in flat.steps:
        for parent in step.parents:
            if step not in parent.consumers:
                parent.consumers.append(step)
    _describe(flat)
    return flat


def _node_of(tensor):
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _walk(model, prefix, inputs, flat):
    """Add the steps of one model; return those that give its outputs."""
    produced = {}
    if inputs is not None:
        produced |= zip(map(id, model.inputs), inputs, strict=True)
    for node in graph_nodes(model):
        if node.is_input and id(node.outputs[0]) in produced:
            continue
        operation = node.operation
        parents = [produced[id(tensor)] for tensor in node.input_tensors]
        step = Step(operation, node, model, prefix + operation.name, parents)
        if is_graph(operation) and len(parents) == len(operation.inputs):
            flat.models.append(step)
            inner = f"{prefix}{operation.name}/"
            outputs = _walk(operation, inner, parents, flat)
        else:
            flat.steps.append(step)
            outputs = [step] * len(node.outputs)
        produced |= zip(map(id, node.outputs), outputs, strict=True)
    return [produced[id(tensor)] for tensor in model.outputs]


def _describe(flat):
    """Fill in what the steps give: images, their sizes and levels."""
    formats = [
        step.operation.data_format
        for step in flat.steps
        if len(step.shape) == 4 and hasattr(step.operation, "data_format")
    ]
    usual = formats[0] if formats else keras.config.image_data_format()
    sizes = _Sizes(flat.steps)
    for step in flat.steps:
        images = [parent for parent in step.parents if parent.is_image]
        step.data_format = getattr(
            step.operation,
            "data_format",
            images[0].data_format if images else usual,
        )
        if len(step.node.outputs) != 1 or len(step.shape) != 4:
            continue
        step.size = sizes.of(step)
        step.is_image = not _is_squeezed(step, images)
        if not step.is_image:
            continue
        if images:
            largest = max(images, key=lambda image: _area(image.size))
            step.level = largest.level + _levels_down(largest, step)
        step.convolved = step.has_kernel or any(
            image.convolved and image.level == step.level for image in images
        )
    for step in flat.models:
        step.data_format = usual
        step.is_image = len(step.node.outputs) == 1 and len(step.shape) == 4


def _is_squeezed(step, images):
    """Whether an image of one pixel stands for a whole image."""
    if step.size != (1, 1):
        return False
    pools = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    pooled = isinstance(step.operation, pools) or (
        type(step.operation).__name__ in ("Max", "Mean")
    )
    return pooled or (bool(step.parents) and not images)


def _area(size):
    return math.prod(side or 1 for side in size)


def _levels_down(before, step):
    """How often a step halves the size; less than 0 if it doubles it.

    The strides say it exactly. Sizes alone would count the padding, which is
    much of a small image.
    """
    if before.size == step.size or is_padding(step.operation):
        return 0
    strides = getattr(step.operation, "strides", None)
    if strides is not None:
        down = round(math.log2(max(keras.tree.flatten(strides))))
        return -down if step.size > before.size else down
    ratios = [
        old / new
        for old, new in zip(before.size, step.size, strict=True)
        if old and new
    ]
    return round(math.log2(max(ratios))) if ratios else 0


def is_padding(operation: Any) -> bool:
    """Whether an operation changes the size by a border."""
    borders = (layers.Cropping2D, layers.ZeroPadding2D)
    return isinstance(operation, borders) or (type(operation).__name__ == "Pad")


class _Sizes:
    """Heights and widths; those that a model leaves open, for an example.

    Args:
        steps: of a whole graph, in order.
        example: the height and width that stand for an unknown one.
    """

    def __init__(self, steps: list[Step], example: int = 256):
        self.example = example
        self.tensors: dict[int, keras.KerasTensor] = {}
        self.is_open = any(
            len(step.shape) == 4 and None in step.shape[1:] for step in steps
        )
        if self.is_open:
            for step in steps:
                self._follow(step)

    def of(self, step: Step) -> tuple:
        shape = step.shape
        if self.is_open:
            shape = self.tensors[id(step)].shape
        first = step.data_format == "channels_first"
        return tuple(shape[2:] if first else shape[1:3])

    def _follow(self, step):
        """Compute the shape that a step gives for the example."""
        declared = step.node.outputs[0]
        self.tensors[id(step)] = declared
        if step.node.is_input:
            shape = declared.shape[:1] + tuple(
                size or self.example for size in declared.shape[1:]
            )
            self.tensors[id(step)] = keras.KerasTensor(shape, declared.dtype)
            return
        example = {
            id(tensor): self.tensors[id(parent)]
            for tensor, parent in zip(
                step.node.input_tensors, step.parents, strict=True
            )
        }
        args, kwargs = map_tensors(example, step.node)
        try:
            output = step.operation.compute_output_spec(*args, **kwargs)
        except Exception:  # noqa: BLE001
            return  # A layer that goes by the declared shape: so do we.
        self.tensors[id(step)] = keras.tree.flatten(output)[0]


def map_tensors(values: dict[int, Any], node: Any) -> tuple[tuple, dict]:
    """The arguments of a recorded call, its tensors replaced.

    Args:
        values: what stands for each tensor, by the tensor's identity.
        node: Keras' record of the call.
    """

    def replace(value):
        is_tensor = isinstance(value, keras.KerasTensor)
        return values[id(value)] if is_tensor else value

    return keras.tree.map_structure(
        replace, (node.arguments.args, node.arguments.kwargs)
    )
