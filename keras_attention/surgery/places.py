"""The places in a flat graph where papers put attention.

    residual    the end of what a residual block adds to its input, before
                the addition and before any dropping of whole branches
    stage       the last image of a resolution
    conv        after a convolution, its normalization and its activation

Each is found by what the graph computes, not by the names of layers.
"""

from collections.abc import Callable
from collections.abc import Iterator
from functools import reduce

import keras
from keras import layers

from keras_attention.surgery.graph import Step
from keras_attention.surgery.graph import is_padding

# Custom layers that drop whole residual branches, by the usual names.
BRANCH_DROPS = ("DropPath", "StochasticDepth")
DROPS = (
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout2D,
)
CONVOLUTIONS = (
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
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
)
# The names of Keras' operations such as `keras.ops.relu`.
ACTIVATION_OPERATIONS = {
    name.replace("_", "") for name in dir(keras.activations)
}


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
        """The last step that every path to either passes through."""
        while one is not other:
            if one is None or other is None:
                return None
            if self._order[id(one)] > self._order[id(other)]:
                one = self.before(one)
            else:
                other = self.before(other)
        return one


def residual_ends(steps: list[Step], dominators: Dominators) -> Iterator[Step]:
    """The ends of residual branches.

    A residual block begins at a step that every path to its addition passes
    through, and nothing inside it is used outside. Of the tensors added, the
    shortcut is the one that fewest layers with kernels lead to.
    """
    for addition in steps:
        added = list(dict.fromkeys(addition.parents))
        fork = dominators.before(addition)
        if (
            fork is None
            or len(added) < 2
            or not _is_addition(addition.operation)
            or any(
                not step.is_image or step.shape != addition.shape
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
        for step, count in zip(added, kernels, strict=True):
            if count > min(kernels):
                yield _go_back(step, _is_drop)


def stage_ends(steps: list[Step], dominators: Dominators) -> Iterator[Step]:
    """The last step of each resolution on the way of all that follows.

    Where several paths lead to the next resolution, it is the last step that
    they share. The padding and the normalization for a strided convolution,
    and the expansion that goes with a strided depthwise one, belong to what
    comes next.
    """
    ends: list[Step] = []
    for step in steps:
        if not step.is_image:
            continue
        following = [other for other in step.consumers if other.is_image]
        leaving = [other for other in following if other.level != step.level]
        if following and not leaving:
            continue
        end = step
        if leaving:
            end = _before_expansion(_go_back(step, _is_prelude), leaving)
        for number, earlier in enumerate(ends):
            shared = dominators.common(earlier, end)
            if shared is not None and (
                shared.level == earlier.level == end.level and shared.convolved
            ):
                ends[number] = shared
                break
        else:
            ends.append(end)
    yield from (end for end in ends if end.convolved)


def conv_ends(steps: list[Step], _: Dominators) -> Iterator[Step]:
    """The ends of convolutions, their normalization and activation."""
    for step in steps:
        if not step.is_image or not isinstance(step.operation, CONVOLUTIONS):
            continue
        while len(step.consumers) == 1 and not step.is_output:
            following = step.consumers[0]
            goes_along = _is_normalization(following) or (
                _is_activation(following)
            )
            if len(following.parents) > 1 or not goes_along:
                break
            step = following
        yield step


FINDERS: dict[str, Callable[[list[Step], Dominators], Iterator[Step]]] = {
    "residual": residual_ends,
    "stage": stage_ends,
    "conv": conv_ends,
}


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
    axis = -1 if start.data_format == "channels_last" else 1
    expands = start.shape[axis] > bottleneck.shape[axis]
    # Bottlenecks are linear: MobileNetV1 widens too, after an activation.
    return step if _is_activation(bottleneck) or not expands else bottleneck


def _is_pointwise(operation):
    return isinstance(operation, layers.Conv2D) and (
        set(operation.kernel_size) == {1}
    )


def _is_addition(operation):
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, layers.Add)
    return type(operation).__name__ == "Add"


def _is_drop(step):
    return (
        isinstance(step.operation, DROPS)
        or type(step.operation).__name__ in BRANCH_DROPS
    )


def _is_prelude(step):
    """Padding, or a normalization that is not a convolution's own."""
    return is_padding(step.operation) or (
        _is_normalization(step) and not step.parents[0].has_kernel
    )


def _is_normalization(step):
    return isinstance(step.operation, NORMALIZATIONS)


def _is_activation(step):
    if isinstance(step.operation, keras.layers.Layer):
        return isinstance(step.operation, ACTIVATIONS)
    return type(step.operation).__name__.lower() in ACTIVATION_OPERATIONS
