"""Reads intermediate outputs, outputs and masks of a model in one pass."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.backend import no_gradient
from keras_attention.inspection import call_on_shapes
from keras_attention.inspection import channel_axis
from keras_attention.inspection import example_tensors
from keras_attention.inspection import find_layer
from keras_attention.inspection import input_tensors
from keras_attention.inspection import record_outputs
from keras_attention.inspection import split_name
from keras_attention.inspection import walk_layers
from keras_attention.ops.gradients import value_and_input_gradient

INPUT_GRADIENT = "input gradient"


@dataclass
class Reading:
    """What one pass of a model has given.

    Args:
        values: Intermediate outputs, by name.
        outputs: The model's outputs, as nested as it returns them.
        mask_sources: Of each name, whose mask is its mask; see `ModelReader`.
    """

    values: Mapping[str, Any]
    outputs: Any
    mask_sources: Mapping[str, str | None] = field(default_factory=dict)

    def mask(self, name: str) -> Any:
        """Returns the mask of an intermediate output, or `None`.

        Of attention scores, it is the mask of the queries.
        """
        if split_name(name)[1] == "scores":
            return self.attention_masks(name)[0]
        source = self.mask_sources.get(name)
        return None if source is None else mask_of(self.values[source])

    def attention_masks(self, name: str) -> tuple[Any, Any]:
        """Returns the masks of queries and keys of an attention layer.

        Args:
            name: Of the layer, or of what was recorded of it.
        """
        return self.values[f"{split_name(name)[0]}:masks"]


class ModelReader:
    """Reads what losses compare out of one model, in one pass.

    Images of another size than the model takes are resized for it.

    Args:
        model: A built model.
        like: Another model, whose input sizes are taken where this one
            leaves them open. Defaults to `None`.
    """

    def __init__(self, model: keras.Model, like: keras.Model | None = None):
        self.model = model
        self.like = like
        self.channel_axis = channel_axis(model)
        self._order = _input_order(model, like)
        self._input_shapes = _input_shapes(model)
        self._names: dict[str, None] = {}
        self._mask_sources: dict[str, str | None] = {}

    def request(self, names: Iterable[str]) -> None:
        """Adds intermediate outputs to those that a pass records.

        Raises:
            ValueError: If a layer does not exist.
        """
        names = list(names)
        names += [
            f"{split_name(name)[0]}:masks"
            for name in names
            if split_name(name)[1] == "scores"
        ]
        new = [name for name in names if name not in self._names]
        for name in new:
            find_layer(self.model, split_name(name)[0])
        self._names.update(dict.fromkeys(new))
        masked = [name for name in new if name not in self._mask_sources]
        self._mask_sources.update(self._find_mask_sources(masked))

    @property
    def names(self) -> list[str]:
        """All intermediate outputs that a pass records."""
        sources = [source for source in self._mask_sources.values() if source]
        return [*dict.fromkeys([*self._names, *sources])]

    def reading(self, values: Mapping[str, Any], outputs: Any) -> Reading:
        """Puts together what a pass of the model has given."""
        return Reading(values, outputs, self._mask_sources)

    def read(
        self,
        inputs: Any,
        extract: Callable[[Reading], dict[str, Any]],
        loss: Callable[[Any], Any] | None = None,
    ) -> dict[str, Any]:
        """Runs the model once in inference mode, outside any gradient.

        Args:
            inputs: What the student takes.
            extract: Returns tensors by name of a `Reading`.
            loss: Function of the model's outputs. If given, its gradient at
                the inputs is returned as well, as `"input gradient"`.

        Returns:
            Tensors by name. Nothing of the model changes.
        """

        def run(x):
            x = self._resized(x)
            with record_outputs(self.model, self.names) as values:
                outputs = self.model(x, training=False)
            found = extract(self.reading(values, outputs))
            return (None if loss is None else loss(outputs)), found

        # Whatever a layer would assign or record for itself is dropped.
        mapping = [(v, v.value) for v in self.model.variables]
        with keras.StatelessScope(state_mapping=mapping), no_gradient():
            if loss is None:
                _, found = run(inputs)
            else:
                gradient, found = value_and_input_gradient(run, inputs)
                found[INPUT_GRADIENT] = gradient
        return {name: ops.stop_gradient(x) for name, x in found.items()}

    def _find_mask_sources(self, names):
        """Finds whose mask holds for each name.

        A layer that does not pass its mask on, such as a sum made by `+`, has
        that of the last layer before it with as many positions, or of the
        next: Keras' MultiHeadAttention takes the mask off its inputs.
        """
        if not names or not _may_have_masks(self.model):
            return dict.fromkeys(names)
        model, found = self.model, {}
        layers = [path for path, _ in walk_layers(model)]

        def run(inputs):
            with record_outputs(model, [*layers, *names]) as values:
                outputs = model(inputs, training=False)
            order = [
                (name, value)
                for name, value in values.in_order()
                if hasattr(value, "shape")
            ]
            for name in names:
                found[name] = _mask_source(name, order)
            return outputs

        call_on_shapes(run, example_tensors(model, self.like))
        return found

    def _resized(self, inputs):
        if self._order is not None and isinstance(inputs, list | tuple):
            inputs = [inputs[number] for number in self._order]
        shapes = self._input_shapes
        if keras.tree.is_nested(inputs) or len(shapes[0]) != 3:
            return inputs
        first = self.channel_axis == 1
        size = shapes[0][1:] if first else shapes[0][:-1]
        now = inputs.shape[2:] if first else inputs.shape[1:-1]
        if len(shapes) > 1 or _compatible(now, size):
            return inputs
        return ops.image.resize(
            inputs,
            size,
            antialias=True,
            data_format="channels_first" if first else "channels_last",
        )


def mask_of(x: Any) -> Any:
    """Returns the mask that Keras passes on with a tensor, or `None`."""
    layer = MaskOf(dtype="float32", autocast=False)
    layer(x)
    return layer.found


class MaskOf(keras.layers.Layer):
    """Keeps the mask that Keras passes to it."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None):
        self.found = mask
        return inputs


def check_inputs(student: keras.Model, teacher: keras.Model) -> None:
    """Checks that a teacher takes the inputs of its student.

    Raises:
        ValueError: If the two take inputs that no resizing makes equal.
    """
    mine, theirs = _input_shapes(student), _input_shapes(teacher)
    order = _input_order(teacher, student)
    if order is not None:
        mine = [mine[number] for number in order]
    if len(mine) == len(theirs) and all(map(_compatible, mine, theirs)):
        return
    axes = {channel_axis(student), channel_axis(teacher)}
    if len(axes) == 1 and [*map(len, mine), *map(len, theirs)] == [3, 3]:
        channel = 0 if axes == {1} else -1
        if mine[0][channel] == theirs[0][channel]:
            return
    raise ValueError(
        "The student and the teacher must take the same inputs: images of "
        "one size are resized for a teacher of another, but not given other "
        f"channels. Received: a student that takes {mine} and a teacher that "
        f"takes {theirs}"
    )


def _mask_source(name, order):
    """The name whose mask is that of `name`, in the order of the calls."""
    path, kind = split_name(name)
    if kind != "output":
        return None
    numbers = [n for n, (each, _) in enumerate(order) if each == name]
    if not numbers:
        return None
    value = order[numbers[0]][1]
    if len(value.shape) < 2:
        return None
    length = value.shape[1]
    before = reversed(order[: numbers[0] + 1])
    after = order[numbers[0] :]
    same_layer = [each for each in order if each[0] == path]
    calls = [each for each, _ in order]
    for other, tensor in [*same_layer, *before, *after]:
        if split_name(other)[1] != "output" or calls.count(other) != 1:
            continue
        mask = mask_of(tensor)
        if mask is not None and tuple(mask.shape)[1:2] == (length,):
            return other
    return None


def _may_have_masks(model):
    return any(map(_makes_masks, [layer for _, layer in walk_layers(model)]))


def _makes_masks(layer):
    if not isinstance(layer, keras.layers.Layer):
        return False
    if getattr(layer, "mask_zero", False):
        return True
    # Keras' own layers, but for one, pass masks on and make none.
    own = not type(layer).__module__.startswith(("keras.", "keras_attention."))
    overridden = type(layer).compute_mask is not keras.layers.Layer.compute_mask
    return isinstance(layer, keras.layers.Masking) or (own and overridden)


def _input_order(model, like):
    """Where a model's inputs are among those of another; `None` as they are.

    A list of inputs is in the order of the student's. Where both models have
    inputs of the same names in other orders, the teacher has them by name.
    """
    if like is None:
        return None
    mine, theirs = (_input_names(each) for each in (model, like))
    if mine == theirs or set(mine) != set(theirs) or len(set(mine)) < 2:
        return None
    return [theirs.index(name) for name in mine]


def _input_names(model):
    inputs = getattr(model, "_inputs_struct", None)
    if not isinstance(inputs, list | tuple):
        return []
    return [tensor.name for tensor in keras.tree.flatten(inputs)]


def _input_shapes(model):
    inputs = keras.tree.flatten(input_tensors(model))
    return [tuple(x.shape[1:]) for x in inputs]


def _compatible(first, second):
    return len(first) == len(second) and all(
        a == b or None in (a, b) for a, b in zip(first, second, strict=True)
    )
