"""Finds residual blocks, stages, convolutions and skips in a flat graph.

Each is found by what the graph computes, and not by the names of layers, but
for stages whose ends are named `"stage1"`, `"stage2"` and so on.
"""

import re
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_attention.inspection.graph import CONVOLUTIONS
from keras_attention.inspection.graph import Dominators
from keras_attention.inspection.graph import FlatGraph
from keras_attention.inspection.graph import Step
from keras_attention.inspection.graph import area
from keras_attention.inspection.graph import is_border

STAGE_NAME = re.compile(r"(.*/)?stage\d+")
# Custom layers that drop whole residual branches, by the usual names.
BRANCH_DROPS = ("DropPath", "StochasticDepth")
# Layers that are a sum with a weight: that of Keras' InceptionResNetV2.
WEIGHTED_SUMS = ("CustomScaleLayer",)
DROPS = (
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
DEPTHWISE = (
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.UnitNormalization,
)
ACTIVATIONS = (
    layers.Activation,
    layers.ELU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ReLU,
    layers.Softmax,
)
# The names of Keras' operations such as `keras.ops.relu`.
ACTIVATION_OPERATIONS = {
    name.replace("_", "") for name in dir(keras.activations)
}


@dataclass
class Block:
    """A residual block of a graph.

    Attributes:
        addition: The sum of the branches.
        end: The activation of the sum where nothing else uses the sum, as in
            the ResNet of 2015; else the sum.
        branches: Ends of the residual branches, before dropping.
    """

    addition: Step
    end: Step
    branches: list[Step]


@dataclass
class Skip:
    """A skip connection from an encoder to a decoder.

    Attributes:
        source: The step that the connection comes from.
        merge: The step that joins it with the decoder's features.
        tensor: The input of `merge` that is the connection.
        gating: The decoder's features before their resolution was raised, as
            a tensor of the graph that `merge` is in; where they are in
            another graph or another step came between, the input of `merge`
            that they have become.
    """

    source: Step
    merge: Step
    tensor: Any
    gating: Any


def find_blocks(graph: FlatGraph) -> list[Block]:
    """Return the residual blocks of a graph.

    A residual block begins at a step that every path to its addition passes
    through, and nothing inside it is used outside. Of the tensors added, the
    shortcut is the one that fewest layers with kernels lead to.
    """
    dominators = Dominators(graph.steps)
    blocks = []
    for addition in graph.steps:
        added = list(dict.fromkeys(addition.parents))
        fork = dominators.before(addition)
        if (
            fork is None
            or len(added) < 2
            or not is_addition(addition.operation)
            or any(
                not step.is_map or step.shape != addition.shape
                for step in added
            )
        ):
            continue
        branches = [_between(fork, step) for step in added]
        inside = set().union(*branches) | {addition}
        if any(
            step.is_output or not inside.issuperset(step.consumers)
            for step in inside - {addition}
        ):
            continue
        kernels = [sum(s.has_kernel for s in branch) for branch in branches]
        ends = [
            _go_back(step, _is_drop)
            for step, count in zip(added, kernels, strict=True)
            if count > min(kernels)
        ]
        end = addition
        if len(addition.consumers) == 1 and not addition.is_output:
            following = addition.consumers[0]
            if is_activation(following.operation):
                end = following
        blocks.append(Block(addition, end, ends))
    return blocks


def find_stages(graph: FlatGraph) -> list[Step]:
    """Return the last step of each stage of a graph.

    A stage is the part of a network at one resolution; in a decoder, where
    the resolution grows again, each is one of its own. The end of a stage is
    the last step on the way of all that follows; where several paths lead to
    the next resolution, it is the last step that they share. If a layer of
    the stage is named `"stage1"`, `"stage2"` and so on, it is that layer.

    The padding and the normalization for a strided convolution, and the
    expansion that goes with a strided depthwise one, belong to the next
    stage. The stem of a residual network, resolutions of plain convolutions
    before its first residual block, is not a stage, and neither is the
    convolution at the end of a decoder that makes the predictions.
    """
    dominators = Dominators(graph.steps)
    order = {id(step): n for n, step in enumerate(graph.steps)}
    ends: list[Step] = []
    for step in graph.steps:
        if not step.is_map:
            continue
        following = [other for other in step.consumers if other.is_map]
        leaving = [o for o in following if o.segment != step.segment]
        if following and not leaving:
            continue
        end = step
        if leaving:
            end = _before_expansion(_go_back(step, _is_prelude), leaving)
        for number, earlier in enumerate(ends):
            shared = dominators.common(earlier, end)
            if (
                shared is not None
                and shared.segment == earlier.segment == end.segment
                and shared.convolved
            ):
                ends[number] = shared
                break
        else:
            ends.append(end)
    ends = [_before_predictions(end) for end in ends if end.convolved]
    named = {
        step.segment: step
        for step in graph.steps
        if step.is_map and STAGE_NAME.fullmatch(step.path)
    }
    ends = [
        _go_back(end, lambda step: step.is_split)
        for end in ends
        if end is not None
    ]
    ends = [named.get(end.segment, end) for end in ends]
    ends = sorted(dict.fromkeys(ends), key=lambda step: order[id(step)])
    return _without_stem(graph, ends)


def find_convolutions(graph: FlatGraph) -> list[Step]:
    """Return the ends of convolutions, their normalization and activation."""
    ends = []
    for step in graph.steps:
        if not step.is_map or not isinstance(step.operation, CONVOLUTIONS):
            continue
        while len(step.consumers) == 1 and not step.is_output:
            following = step.consumers[0]
            goes_along = _is_normalization(following) or is_activation(
                following.operation
            )
            if len(following.parents) > 1 or not goes_along:
                break
            step = following
        ends.append(step)
    return ends


def find_skips(graph: FlatGraph) -> list[Skip]:
    """Return the skip connections of a graph.

    Where maps are concatenated or added, of which some have been at a lower
    resolution, the others are skip connections.
    """
    skips = []
    for merge in graph.steps:
        maps = [parent for parent in merge.parents if parent.is_map]
        if len(maps) < 2 or not is_merge(merge.operation):
            continue
        most = max(step.climbs for step in maps)
        inputs = list(zip(merge.parents, merge.node.input_tensors, strict=True))
        decoded = next(each for each in inputs if each[0].climbs == most)
        skips += [
            Skip(step, merge, tensor, _gating_signal(merge, step, *decoded))
            for step, tensor in inputs
            if step.is_map and step.climbs < most
        ]
    return skips


def is_merge(operation: Any) -> bool:
    """Return whether an operation concatenates or adds tensors."""
    is_concatenation = type(operation).__name__ == "Concatenate"
    return is_concatenation or is_addition(operation)


def is_addition(operation: Any) -> bool:
    """Return whether an operation is a sum of tensors."""
    name = type(operation).__name__
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, layers.Add) or name in WEIGHTED_SUMS
    return name == "Add"


def is_activation(operation: Any) -> bool:
    """Return whether an operation is an activation function."""
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, ACTIVATIONS)
    return type(operation).__name__.lower() in ACTIVATION_OPERATIONS


def ancestors(end: Step) -> set[Step]:
    """Return a step and all that lead to it."""
    found, queue = set(), [end]
    while queue:
        step = queue.pop()
        if step not in found:
            found.add(step)
            queue += step.parents
    return found


def _gating_signal(merge, source, step, tensor):
    """The decoder's features before they got the resolution of `source`."""
    while (
        step.owner is merge.owner
        and len(step.parents) == 1
        and not step.is_split
        and area(step.size) >= area(source.size)
    ):
        step = step.parents[0]
    is_coarse = step.is_map and area(step.size) < area(source.size)
    if step.owner is merge.owner and is_coarse and not step.is_split:
        return step.node.outputs[0]
    return tensor


def _without_stem(graph, ends):
    """Leave out resolutions of plain convolutions before residual blocks."""
    blocks = find_blocks(graph)
    if not blocks:
        return ends
    order = {id(step): n for n, step in enumerate(graph.steps)}
    first = min(order[id(block.addition)] for block in blocks)
    segments = {block.addition.segment for block in blocks}
    kept = []
    for end in ends:
        is_early = order[id(end)] < first and end.segment not in segments
        if is_early and not STAGE_NAME.fullmatch(end.path):
            inside = [s for s in ancestors(end) if s.segment == end.segment]
            if not any(isinstance(s.operation, DEPTHWISE) for s in inside):
                continue
        kept.append(end)
    return kept


def _before_predictions(end):
    """The end of a decoder's stage without the layer of its predictions."""
    step = end
    if not end.climbs or not end.is_output:
        return end
    while is_activation(step.operation) and len(step.parents) == 1:
        step = step.parents[0]
    if not isinstance(step.operation, CONVOLUTIONS):
        return end
    before = step.parents[0]
    # More than a map that was merely enlarged: convolved, or fused with one.
    is_stage = before.convolved or len(before.parents) > 1
    return before if before.segment == end.segment and is_stage else None


def _between(fork, end):
    """The steps after `fork` that lead to `end`, `end` included."""
    found, queue = set(), [end]
    while queue:
        step = queue.pop()
        if step is not fork and step not in found:
            found.add(step)
            queue += step.parents
    return found


def _go_back(step, passes):
    while len(step.parents) == 1 and passes(step):
        step = step.parents[0]
    return step


def _before_expansion(step, leaving):
    """The input of an inverted residual's expansion, or the step itself."""
    if not any(
        isinstance(other.operation, layers.DepthwiseConv2D) for other in leaving
    ):
        return step
    start = step
    while not start.has_kernel:
        if len(start.parents) != 1 or len(start.parents[0].consumers) != 1:
            return step
        start = start.parents[0]
    if len(start.parents) != 1 or not _is_pointwise(start.operation):
        return step
    bottleneck = start.parents[0]
    expands = (start.channels or 0) > (bottleneck.channels or 0)
    # Bottlenecks are linear: MobileNetV1 widens too, after an activation.
    is_linear = not is_activation(bottleneck.operation)
    return bottleneck if is_linear and expands else step


def _is_pointwise(operation):
    return isinstance(operation, CONVOLUTIONS) and (
        not isinstance(operation, DEPTHWISE)
        and set(operation.kernel_size) == {1}
    )


def _is_drop(step):
    return (
        isinstance(step.operation, DROPS)
        or type(step.operation).__name__ in BRANCH_DROPS
    )


def _is_prelude(step):
    """Padding, or a normalization that is not a convolution's own."""
    return is_border(step.operation) or (
        _is_normalization(step) and not step.parents[0].has_kernel
    )


def _is_normalization(step):
    return isinstance(step.operation, NORMALIZATIONS)
