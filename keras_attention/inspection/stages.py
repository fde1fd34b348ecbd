"""The stages and residual blocks of a model, and a list of its layers."""

import collections
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
from keras import layers

from keras_attention.inspection.graph import CONVOLUTIONS
from keras_attention.inspection.graph import Step
from keras_attention.inspection.graph import flatten_graph
from keras_attention.inspection.graph import fractions_of
from keras_attention.inspection.graph import is_graph
from keras_attention.inspection.layer_outputs import LayerOutput
from keras_attention.inspection.layer_outputs import example_tensors
from keras_attention.inspection.layer_outputs import layer_outputs
from keras_attention.inspection.layer_paths import channel_axis
from keras_attention.inspection.layer_paths import children
from keras_attention.inspection.structure import STAGE_NAME
from keras_attention.inspection.structure import find_blocks
from keras_attention.inspection.structure import find_stages
from keras_attention.inspection.structure import is_activation

# Layers that change the size of a map and are not the end of anything.
RESIZERS = ("Pool", "Padding", "Cropping", "UpSampling", "Input", "Resizing")


@dataclass(frozen=True)
class Stage:
    """The end of a stage: of all that a model computes at one resolution.

    Attributes:
        name: Path of the last layer, such as `"backbone/conv2_block3_out"`;
            the name of its output for `record_outputs`.
        resolution: Height and width of its output as fractions of the
            model's input; one fraction in a 1-D network and three in a 3-D
            one.
        size: Height and width of its output; where the model leaves them
            open, those of an example.
        channels: Number of channels of its output.
        calls: How often the layer is called in the model.
    """

    name: str
    resolution: tuple[Fraction, ...]
    size: tuple[int, ...]
    channels: int | None
    calls: int = 1


@dataclass(frozen=True)
class ResidualBlock:
    """The end of a residual block.

    Attributes:
        name: Path of the activation of the sum where nothing else uses the
            sum, as in the ResNet of 2015; else of the sum.
        addition: Path of the sum.
        resolution: As in `Stage`.
        size: As in `Stage`.
        channels: As in `Stage`.
        calls: How often the layer is called in the model.
    """

    name: str
    addition: str
    resolution: tuple[Fraction, ...]
    size: tuple[int, ...]
    channels: int | None
    calls: int = 1


def stages(model: keras.Model, like: keras.Model | None = None) -> list[Stage]:
    """Return the ends of a model's stages, in the order of computation.

    A stage is the part of a network at one resolution, and its end is the
    output that the next stage starts from: in a ResNet with activations after
    the additions that of the last block, activated. In a decoder, where the
    resolution grows again, every resolution is a stage of its own. If a layer
    of a stage is named `"stage1"`, `"stage2"` and so on, it is the end.

    The stem of a residual network, convolutions at resolutions before its
    first residual block, is not a stage, and neither is a decoder's last
    convolution, which makes the predictions. Nested models are entered. In a
    model without a graph, such as a subclassed one, the order in which its
    layers are called is used instead: the end of a stage is the layer
    named so, else the last residual sum with the activation called next, else
    the last layer of that size that does not merely resize.

    `insert_attention(at="stage")`, the pairs of attention transfer and the
    figures all use these.

    Args:
        model: A built model.
        like: A model that takes the same inputs, whose sizes are used where
            `model` leaves them open. Defaults to `None`, 128 for a height or
            width and 16 for a time.

    Returns:
        A list of `Stage`s.

    Raises:
        ValueError: If the model is not built.

    Example:

    >>> from keras_attention.models import ResNet
    >>> model = ResNet(18, input_shape=(64, 64, 3))
    >>> for stage in stages(model):
    ...     print(stage.name, stage.size, stage.resolution[0], stage.channels)
    stage1 (16, 16) 1/4 64
    stage2 (8, 8) 1/8 128
    stage3 (4, 4) 1/16 256
    stage4 (2, 2) 1/32 512
    """
    if not is_graph(model):
        return _Calls(model, like).stages()
    found: dict[str, list[Step]] = {}
    for step in find_stages(flatten_graph(model, like)):
        found.setdefault(step.path, []).append(step)
    return [_stage(steps) for steps in found.values()]


def residual_blocks(
    model: keras.Model, like: keras.Model | None = None
) -> list[ResidualBlock]:
    """Return the ends of a model's residual blocks, in order.

    A residual block is a part of the graph that ends in a sum of its input,
    which may be projected, and of branches that nothing outside uses: sums in
    a feature pyramid are not residual blocks. In a model without a graph every
    `keras.layers.Add` is taken for one.

    Args:
        model: A built model.
        like: See `stages`.

    Returns:
        A list of `ResidualBlock`s.

    Raises:
        ValueError: If the model is not built.

    Example:

    >>> from keras_attention.models import WideResNet
    >>> model = WideResNet(10, 1, input_shape=(8, 8, 3))
    >>> [block.name for block in residual_blocks(model)]
    ['stage1_block1_add', 'stage2_block1_add', 'stage3_block1_add']
    """
    if not is_graph(model):
        return _Calls(model, like).blocks()
    found: dict[str, list[Any]] = {}
    for block in find_blocks(flatten_graph(model, like)):
        found.setdefault(block.end.path, []).append(block)
    return [
        ResidualBlock(
            name, blocks[0].addition.path, *_described([b.end for b in blocks])
        )
        for name, blocks in found.items()
    ]


def _stage(steps):
    return Stage(steps[0].path, *_described(steps))


def _described(steps):
    first = steps[0]
    return first.resolution, first.size, first.channels, len(steps)


@dataclass
class _Call:
    """A call in a model without a graph, in the order in which they end.

    Attributes:
        output: What it returns.
        resolution: Of its output.
        is_end: Whether the end of a stage is known to be here.
    """

    output: LayerOutput
    resolution: tuple
    size: tuple
    channels: int
    is_end: bool = False

    @property
    def is_addition(self) -> bool:
        return isinstance(self.output.layer, layers.Add)

    @property
    def has_kernel(self) -> bool:
        variables = getattr(self.output.layer, "variables", ())
        return any(len(variable.shape) >= 2 for variable in variables)

    @property
    def is_resizer(self) -> bool:
        name = type(self.output.layer).__name__
        return any(word in name for word in RESIZERS)


class _Calls:
    """The calls of a model that has no graph.

    Layers inside a nested functional model are left out but for the ends of
    its stages; so are the parts of a layer that is not a model.
    """

    def __init__(self, model: keras.Model, like: keras.Model | None):
        self._graph_blocks: dict[str, ResidualBlock] = {}
        self._ends: set[str] = set()
        self._seen: set[str] = set()
        self._walk(model, "")
        outputs = [
            output
            for output in layer_outputs(model, like=like)
            if output.name in self._seen
        ]
        ranks = collections.Counter(
            len(output.shape)
            for output in outputs
            if isinstance(output.layer, CONVOLUTIONS)
            or output.name in self._ends
        )
        rank = ranks.most_common(1)[0][0] if ranks else 4
        whole = [
            self._positions(tensor.shape, channel_axis(model))
            for tensor in keras.tree.flatten(example_tensors(model, like))
            if len(tensor.shape) == rank
        ]
        self._found = []
        for output in outputs:
            if len(output.shape) != rank:
                continue
            axis = channel_axis(model, output.name)
            size = self._positions(output.shape, axis)
            whole = whole or [size]
            self._found.append(
                _Call(
                    output,
                    fractions_of(size, whole[0]),
                    size,
                    output.shape[axis],
                    output.name in self._ends,
                )
            )

    def stages(self) -> list[Stage]:
        runs: list[list[_Call]] = []
        for call in self._found:
            if not runs or runs[-1][-1].size != call.size:
                runs.append([])
            runs[-1].append(call)
        ends = [end for end in map(self._end, runs) if end is not None]
        return [
            Stage(end.output.name, end.resolution, end.size, end.channels)
            for end in ends
        ]

    def blocks(self) -> list[ResidualBlock]:
        found = []
        for number, call in enumerate(self._found):
            name = call.output.name
            described = call.resolution, call.size, call.channels
            if name in self._graph_blocks:
                addition = self._graph_blocks[name].addition
                found.append(ResidualBlock(name, addition, *described))
            elif call.is_addition:
                end = self._activated(number).output.name
                found.append(ResidualBlock(end, name, *described))
        return found

    def _walk(self, model, prefix):
        for child in children(model):
            path = prefix + child.name
            if is_graph(child):
                ends = {f"{path}/{end.name}" for end in stages(child)}
                blocks = residual_blocks(child)
                self._ends |= ends
                self._graph_blocks |= {
                    f"{path}/{block.name}": ResidualBlock(
                        f"{path}/{block.name}",
                        f"{path}/{block.addition}",
                        block.resolution,
                        block.size,
                        block.channels,
                    )
                    for block in blocks
                }
                self._seen |= ends | set(self._graph_blocks)
            elif isinstance(child, keras.Model):
                self._walk(child, path + "/")
            else:
                self._seen.add(path)

    def _end(self, run):
        if not any(call.is_end or call.has_kernel for call in run):
            return None
        named = [c for c in run if STAGE_NAME.fullmatch(c.output.name)]
        known = [call for call in run if call.is_end]
        sums = [call for call in run if call.is_addition]
        if named:
            return named[-1]
        if sums:
            return self._activated(self._found.index(sums[-1]))
        if known:
            return known[-1]
        return [call for call in run if not call.is_resizer][-1]

    def _activated(self, number):
        """The activation that is called next, or the call itself."""
        call = self._found[number]
        following = self._found[number + 1 : number + 2]
        if following and is_activation(following[0].output.layer):
            same = following[0].output.shape == call.output.shape
            return following[0] if same else call
        return call

    @staticmethod
    def _positions(shape, axis):
        return tuple(shape[2:] if axis == 1 else shape[1:-1])
