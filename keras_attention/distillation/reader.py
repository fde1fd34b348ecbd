"""What attention transfer reads out of one model."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.backend import no_gradient
from keras_attention.distillation.backend import value_and_input_gradient
from keras_attention.distillation.logits import as_logits
from keras_attention.distillation.logits import output_activations
from keras_attention.inspection import channel_axis
from keras_attention.inspection import find_layer
from keras_attention.inspection import input_tensors
from keras_attention.inspection import record_outputs
from keras_attention.inspection import split_name
from keras_attention.ops.attention_maps import activation_maps
from keras_attention.ops.attention_maps import score_maps


class Reader:
    """Reads the maps and the logits of one model in one pass.

    Images of another size than the model takes are resized for it.

    Args:
        model: a built model.
        taps: the taps whose maps are wanted.
        map_function: `"sum"` or `"max"`.
        power: of the map function.
        logits: the tap of the logits; `None` for the outputs; `False` if no
            logits are wanted.
    """

    def __init__(
        self,
        model: keras.Model,
        taps: Iterable[str],
        map_function: str = "sum",
        power: float = 2,
        logits: str | None | bool = False,
    ):
        self.model = model
        self.map_taps = tuple(dict.fromkeys(taps))
        self.map_function = map_function
        self.power = power
        self.logits_tap = logits
        if isinstance(logits, str):
            find_layer(model, split_name(logits)[0])
        self.channel_axis = channel_axis(model)
        self.activations = output_activations(model) if logits is None else {}

    @property
    def taps(self) -> list[str]:
        """All taps that must be listened to."""
        named = [self.logits_tap] if isinstance(self.logits_tap, str) else []
        return [*dict.fromkeys([*self.map_taps, *named])]

    def maps(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the maps of each tap, `(B, M, ...)`, by the map's name."""
        return {
            self.map_name(tap): self._map(tap, values[tap])
            for tap in self.map_taps
        }

    def map_name(self, tap: str) -> str:
        """The name of a tap's map says how it was made."""
        if split_name(tap)[1] == "scores":
            return tap
        return f"{tap} {self.map_function}^{self.power:g}"

    def logits(self, outputs: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the logits, by name and in the order of the outputs."""
        if self.logits_tap is False:
            return {}
        if self.logits_tap is None:
            found = keras.tree.flatten(outputs)
        else:
            found = [values[self.logits_tap]]
        found = as_logits(found, self.activations)
        return {f"logits {n}": value for n, value in enumerate(found)}

    def read(
        self, inputs: Any, loss: Callable[[Any], Any] | None = None
    ) -> dict[str, Any]:
        """Run the model once in inference mode, outside any gradient.

        Args:
            inputs: what the student takes.
            loss: function of the model's outputs; if given, its gradient at
                the inputs is among what is returned, as `"input gradient"`.

        Returns:
            Tensors by name. Nothing of the model changes.
        """

        def run(x):
            x = self._resized(x)
            with record_outputs(self.model, self.taps) as values:
                outputs = self.model(x, training=False)
            found = {**self.maps(values), **self.logits(outputs, values)}
            return (None if loss is None else loss(outputs)), found

        # Whatever a layer would assign or note for itself is dropped.
        mapping = [(v, v.value) for v in self.model.variables]
        with keras.StatelessScope(state_mapping=mapping), no_gradient():
            if loss is None:
                _, found = run(inputs)
            else:
                gradient, found = value_and_input_gradient(run, inputs)
                found["input gradient"] = gradient
        return {name: ops.stop_gradient(x) for name, x in found.items()}

    def _map(self, tap, value):
        if split_name(tap)[1] == "scores":
            return score_maps(value)
        axis = self.channel_axis if len(value.shape) > 3 else -1
        return activation_maps(value, self.map_function, self.power, axis)

    def _resized(self, inputs):
        shapes = _input_shapes(self.model)
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


def check_inputs(student: keras.Model, teacher: keras.Model) -> None:
    """Check that a teacher can be shown what its student is shown.

    Raises:
        ValueError: if the two take inputs that no resizing makes equal.
    """
    mine, theirs = _input_shapes(student), _input_shapes(teacher)
    if len(mine) == len(theirs) and all(map(_compatible, mine, theirs)):
        return
    axes = {channel_axis(student), channel_axis(teacher)}
    if len(axes) == 1 and [*map(len, mine), *map(len, theirs)] == [3, 3]:
        channel = 0 if axes == {1} else -1
        if mine[0][channel] == theirs[0][channel]:
            return
    raise ValueError(
        "The teacher is shown what the student is shown, so both must take "
        "the same inputs; images of one size are resized for a teacher of "
        "another, but not given other channels. Received: a student that "
        f"takes {mine} and a teacher that takes {theirs}"
    )


def _input_shapes(model):
    inputs = keras.tree.flatten(input_tensors(model))
    return [tuple(x.shape[1:]) for x in inputs]


def _compatible(first, second):
    return len(first) == len(second) and all(
        a == b or None in (a, b) for a, b in zip(first, second, strict=True)
    )
