"""The graph of a functional model, nested models written out.

Keras keeps a graph as nodes, one for each call of a layer or operation. A
`Step` is such a node seen from the outermost model, with what comes before
and after it across the borders of nested models, and with what its output is:
whether it is a feature map, and at which resolution.
"""

import collections
import math
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction
from functools import reduce
from typing import Any

import keras
from keras import layers

from keras_attention.inspection.layer_outputs import SCALES
from keras_attention.inspection.layer_outputs import example_tensors

CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv1DTranspose,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.Conv3D,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
GLOBAL_POOLS = tuple(
    getattr(layers, f"Global{kind}Pooling{rank}D")
    for kind in ("Average", "Max")
    for rank in (1, 2, 3)
)
BORDERS = tuple(
    getattr(layers, f"{kind}{rank}D")
    for kind in ("Cropping", "ZeroPadding")
    for rank in (1, 2, 3)
)


@dataclass(eq=False)
class Step:
    """One call of a layer or operation.

    Attributes:
        operation: The layer or operation that is called.
        node: Keras' record of the call.
        owner: The model, outermost or nested, whose graph the call is in.
        path: Path of the operation, such as `"backbone/conv1"`.
        parents: The steps that its tensors come from.
        consumers: The steps that use its output.
        is_output: Whether its output is an output of the outermost model.
        data_format: Of the feature map that it returns.
        is_map: Whether it returns a feature map that is not squeezed to a
            single position, or parts of one, as a split.
        size: Sizes of that map's spatial axes.
        resolution: `size` as fractions of the model's input.
        level: Binary logarithm of the factor by which the map is smaller.
        climbs: How often the resolution was raised on the way here: 0 in an
            encoder, more in each stage of a decoder.
        convolved: Whether a layer with kernels computes at this level.
    """

    operation: Any
    node: Any
    owner: Any
    path: str
    parents: list["Step"]
    consumers: list["Step"] = field(default_factory=list)
    is_output: bool = False
    data_format: str = "channels_last"
    is_map: bool = False
    size: tuple = ()
    resolution: tuple = ()
    level: int = 0
    climbs: int = 0
    convolved: bool = False

    @property
    def shape(self) -> tuple:
        return tuple(self.node.outputs[0].shape)

    @property
    def channels(self) -> int | None:
        return self.shape[1 if self.data_format == "channels_first" else -1]

    @property
    def is_split(self) -> bool:
        """Whether it returns several tensors, which no layer can follow."""
        return len(self.node.outputs) > 1

    @property
    def segment(self) -> tuple[int, int]:
        """Equal for two steps at one resolution of one encoder or decoder."""
        return self.level, self.climbs

    @property
    def has_kernel(self) -> bool:
        variables = getattr(self.operation, "variables", ())
        return any(len(variable.shape) >= 2 for variable in variables)


@dataclass
class FlatGraph:
    """The steps of a model in the order of computation.

    Attributes:
        steps: Calls of operations that are not nested graphs.
        models: Calls of nested graphs, which the steps pass through.
        outputs: The step that gives each output of the model.
        rank: Rank of the model's feature maps, batch and channels included.
    """

    steps: list[Step]
    models: list[Step]
    outputs: list[Step] = field(default_factory=list)
    rank: int = 4


def is_graph(layer: Any) -> bool:
    """Return whether `layer` is a model that its graph describes in full.

    A functional model whose class has its own `call` may compute something
    else than its graph.
    """
    if isinstance(layer, keras.Sequential):
        return layer.built and bool(layer._functional)
    kind: Any = type(layer)
    functional = [
        base for base in kind.__mro__ if base.__name__ == "Functional"
    ]
    return bool(functional) and kind.call is functional[0].call


def graph_nodes(model: keras.Model) -> list[Any]:
    """Return the calls that a model's outputs need, in order."""
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
    """Return `(prefix of its layers' paths, model)` of all nested graphs.

    The model itself comes first, with an empty prefix.
    """
    found = {id(model): ("", model)}
    queue = [("", model)]
    for prefix, outer in queue:
        for node in graph_nodes(outer):
            inner = node.operation
            if is_graph(inner) and id(inner) not in found:
                found[id(inner)] = (f"{prefix}{inner.name}/", inner)
                queue.append(found[id(inner)])
    return list(found.values())


def flatten_graph(
    model: keras.Model, like: keras.Model | None = None
) -> FlatGraph:
    """Return the steps of a model's graph.

    Args:
        model: A functional or Sequential model.
        like: A model that gives the sizes that `model` leaves open. Defaults
            to `None`; see `layer_outputs`.
    """
    flat = FlatGraph([], [])
    flat.outputs = _walk(model, "", None, flat)
    for step in flat.outputs:
        step.is_output = True
    for step in flat.steps:
        for parent in step.parents:
            if step not in parent.consumers:
                parent.consumers.append(step)
    sizes = _Sizes()
    if any(None in step.shape[1:] for step in flat.steps):
        for scale in SCALES:
            examples = keras.tree.flatten(example_tensors(model, like, scale))
            sizes = _Sizes(zip(model.inputs, examples, strict=True))
            followed = [sizes.follow(step) for step in flat.steps]
            if all(followed):
                break
    _describe(flat, sizes)
    return flat


class Dominators:
    """For each step, the last one before it that every path passes through."""

    def __init__(self, steps: list[Step]):
        self._order = {id(step): n for n, step in enumerate(steps)}
        self._before: dict[int, Step | None] = {}
        for step in steps:
            self._before[id(step)] = (
                reduce(self.common, step.parents) if step.parents else None
            )

    def before(self, step: Step) -> Step | None:
        return self._before[id(step)]

    def common(self, one: Step | None, other: Step | None) -> Step | None:
        """Return the last step that every path to either passes through."""
        while one is not other:
            if one is None or other is None:
                return None
            if self._order[id(one)] > self._order[id(other)]:
                one = self.before(one)
            else:
                other = self.before(other)
        return one


def is_border(operation: Any) -> bool:
    """Return whether an operation changes the size by a border."""
    return isinstance(operation, BORDERS) or type(operation).__name__ == "Pad"


def map_tensors(values: dict[int, Any], node: Any) -> tuple[tuple, dict]:
    """Return the arguments of a recorded call, its tensors replaced.

    Args:
        values: The replacement of each tensor, by the tensor's identity.
        node: Keras' record of the call.
    """

    def replace(value):
        is_tensor = isinstance(value, keras.KerasTensor)
        return values[id(value)] if is_tensor else value

    return keras.tree.map_structure(
        replace, (node.arguments.args, node.arguments.kwargs)
    )


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


def _describe(flat, sizes):
    """Fill in what the steps return: maps, their sizes and levels."""
    ranks = collections.Counter(
        len(step.shape)
        for step in flat.steps
        if isinstance(step.operation, CONVOLUTIONS)
    )
    flat.rank = ranks.most_common(1)[0][0] if ranks else 4
    formats = [
        step.operation.data_format
        for step in flat.steps
        if len(step.shape) == flat.rank
        and getattr(step.operation, "data_format", None)
    ]
    usual = formats[0] if formats else keras.config.image_data_format()
    whole = None
    for step in flat.steps:
        maps = [parent for parent in step.parents if parent.is_map]
        step.data_format = getattr(step.operation, "data_format", None) or (
            maps[0].data_format if maps else usual
        )
        shapes = [tuple(tensor.shape) for tensor in step.node.outputs]
        if not all(_is_part(step, shape, flat.rank) for shape in shapes):
            continue
        step.size = sizes.of(step)
        step.is_map = not _is_squeezed(step, maps)
        if not step.is_map:
            continue
        whole = whole or step.size
        step.resolution = fractions_of(step.size, whole)
        if maps:
            largest = max(maps, key=lambda each: area(each.size))
            step.level = largest.level + _levels_down(largest, step)
            step.climbs = max(
                each.climbs + (step.level < each.level) for each in maps
            )
        step.convolved = step.has_kernel or any(
            each.convolved and each.segment == step.segment for each in maps
        )
    for step in flat.models:
        step.data_format = usual
        step.is_map = (
            len(step.node.outputs) == 1 and len(step.shape) == flat.rank
        )


def fractions_of(size: tuple, whole: tuple) -> tuple:
    """Return sizes as fractions of others; of unknown ones, `None`."""
    return tuple(
        Fraction(part, all_) if part and all_ else None
        for part, all_ in zip(size, whole, strict=True)
    )


def _is_part(step, shape, rank):
    """Whether an output is a map of the size of the step's first output."""
    axes = (
        slice(2, None)
        if step.data_format == "channels_first"
        else (slice(1, -1))
    )
    return len(shape) == rank and shape[axes] == step.shape[axes]


def _is_squeezed(step, maps):
    """Whether a map of one position stands for a complete one."""
    if set(step.size) != {1}:
        return False
    pooled = isinstance(step.operation, GLOBAL_POOLS) or (
        type(step.operation).__name__ in ("Max", "Mean")
    )
    return pooled or (bool(step.parents) and not maps)


def area(size: tuple) -> int:
    """Return the number of positions of a size, unknown sides left out."""
    return math.prod(side or 1 for side in size)


def _levels_down(before, step):
    """How often a step halves the size; less than 0 if it doubles it.

    The strides say it exactly. Sizes alone would count the padding, which is
    much of a small map.
    """
    if before.size == step.size or is_border(step.operation):
        return 0
    strides = getattr(step.operation, "strides", None)
    if strides is not None:
        down = round(math.log2(max(keras.tree.flatten(strides))))
        return -down if area(step.size) > area(before.size) else down
    ratios = [
        old / new
        for old, new in zip(before.size, step.size, strict=True)
        if old and new
    ]
    return round(math.log2(max(ratios))) if ratios else 0


class _Sizes:
    """Sizes of maps; those that a model leaves open, for an example.

    Args:
        examples: Pairs of a model's input and a tensor without open sizes.
    """

    def __init__(self, examples: Iterable[tuple] = ()):
        self._examples = {id(tensor): example for tensor, example in examples}
        self._tensors: dict[int, keras.KerasTensor] = {}

    def of(self, step: Step) -> tuple:
        shape = step.shape
        if self._tensors:
            shape = self._tensors[id(step)].shape
        first = step.data_format == "channels_first"
        return tuple(shape[2:] if first else shape[1:-1])

    def follow(self, step: Step) -> bool:
        """Compute the shape that a step returns for the example.

        Returns whether it could be: the example may be too small, or the
        layer use the declared shape, as is done then.
        """
        declared = step.node.outputs[0]
        self._tensors[id(step)] = declared
        if step.node.is_input:
            self._tensors[id(step)] = self._examples.get(id(declared), declared)
            return True
        example = {
            id(tensor): self._tensors[id(parent)]
            for tensor, parent in zip(
                step.node.input_tensors, step.parents, strict=True
            )
        }
        args, kwargs = map_tensors(example, step.node)
        try:
            output = step.operation.compute_output_spec(*args, **kwargs)
        except Exception:  # noqa: BLE001
            return False
        self._tensors[id(step)] = keras.tree.flatten(output)[0]
        return True
