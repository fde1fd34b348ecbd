"""Reads outputs of a model, and turns them into logits."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.model_reader import mask_of
from keras_attention.distillation.objectives.output_losses import BERNOULLI
from keras_attention.distillation.objectives.output_losses import REGRESSION
from keras_attention.inspection import find_layer
from keras_attention.inspection import split_name
from keras_attention.inspection.model_outputs import layer_activation
from keras_attention.inspection.model_outputs import named_outputs
from keras_attention.inspection.model_outputs import output_activations
from keras_attention.inspection.model_outputs import output_shapes
from keras_attention.ops.precision import widen

# Probabilities below this are no longer told apart from it in float32, and
# those below the second are 0 in float16.
SMALLEST, SMALLEST_HALF = 1e-37, 6e-8


class OutputReader:
    """Reads outputs, or layers by name, of one model.

    Args:
        reader: `ModelReader` of the model.
    """

    def __init__(self, reader: ModelReader):
        self.model = reader.model
        self.shapes = output_shapes(reader.model)
        self.names = list(self.shapes)
        self._activations: dict[str, str | None] = {}

    def check(self, names: Iterable[str]):
        """Checks that each name is of an output or a layer."""
        for name in names:
            if name not in self.names:
                find_layer(self.model, split_name(name)[0])

    def layers_of(self, names: Iterable[str]):
        return [name for name in names if name not in self.names]

    def find_activations(self, names: Iterable[str]):
        """Finds the activation of each name, to be had by `activation`."""
        by_number = output_activations(self.model)
        for name in names:
            if name in self.names:
                found = by_number.get(self.names.index(name))
            else:
                path = split_name(name)[0]
                found = layer_activation(find_layer(self.model, path))
            self._activations[name] = found

    def activation(self, name: str):
        """`"softmax"`, `"sigmoid"`, `"linear"`, or `None` if not known."""
        return self._activations[name]

    def read(self, reading: Reading, names: Iterable[str]):
        outputs = named_outputs(self.model, reading.outputs)
        found = {}
        for name in dict.fromkeys(names):
            value = outputs[name] if name in outputs else reading.values[name]
            mask = mask_of(value)
            wide = widen(value)
            if keras.backend.standardize_dtype(value.dtype) == "float16":
                # A probability that is 0 there is less than this one.
                wide = ops.where(wide == 0, SMALLEST_HALF, wide)
            found[f"output {name}"] = wide
            if mask is not None:
                found[f"mask {name}"] = ops.cast(mask, "float32")
        return found


def teacher_output(targets: Mapping[str, Any], *names: str) -> Any:
    """Returns what was read of a teacher for an output, or `None`.

    A teacher that was run without its student has names of its own; a single
    output is found whatever its name.

    Args:
        targets: What was read of the teacher.
        *names: Names of the output, of which the first that is known counts.
    """
    for name in names:
        if f"output {name}" in targets:
            return targets[f"output {name}"]
    known = [name for name in targets if name.startswith("output ")]
    return targets[known[0]] if len(known) == 1 else None


def check_layers(layers: Any) -> list[tuple[str, str]] | None:
    """Returns `(student, teacher)` names of layers, or `None`.

    Raises:
        TypeError: If it is neither `None`, a name, a pair of names nor a list
            of these.
    """
    if layers is None:
        return None
    if isinstance(layers, str):
        return [(layers, layers)]
    if (
        isinstance(layers, tuple)
        and len(layers) == 2
        and all(isinstance(name, str) for name in layers)
    ):
        return [tuple(layers)]
    if isinstance(layers, list | tuple) and layers:
        found = []
        for entry in layers:
            if isinstance(entry, str):
                found.append((entry, entry))
            elif (
                isinstance(entry, list | tuple)
                and len(entry) == 2
                and all(isinstance(name, str) for name in entry)
            ):
                found.append(tuple(entry))
            else:
                found = None
                break
        if found:
            return found
    raise TypeError(
        "`logits` must be None, the name of a layer that has the logits, a "
        "(student, teacher) pair of names, or a list of these. "
        f"Received: logits={layers!r}"
    )


def as_logits(kind: str, value: Any, activation: str | None) -> Any:
    """Turns an output into logits, or leaves a regression as it is.

    The logarithm of a softmax is its logits less a number that the next
    softmax takes away again, so it can be used as logits. Where the
    activation is not known, an output is a probability if all its values are:
    not negative with a sum of 1 for classes, from 0 to 1 for labels.

    Args:
        kind: `"categorical"`, `"bernoulli"` or `"regression"`.
        value: Output of shape `(..., C)`, in at least float32.
        activation: `"softmax"`, `"sigmoid"`, `"linear"`, or `None` if it is
            not known.
    """
    if kind == REGRESSION:
        return value
    if kind == BERNOULLI:
        if activation == "linear":
            return value
        if activation == "sigmoid":
            return logit(value)
        inside = ops.all(ops.logical_and(value >= 0, value <= 1))
        return ops.where(inside, logit(value), value)
    if activation in ("softmax", "sigmoid"):
        # Keras divides the values of a sigmoid by their sum, as does the next
        # softmax.
        return ops.log(ops.maximum(value, SMALLEST))
    if activation == "linear":
        return value
    total = ops.sum(value, axis=-1)
    probabilities = ops.logical_and(
        ops.all(value >= 0), ops.all(ops.abs(total - 1) < 1e-2)
    )
    logarithm = ops.log(ops.maximum(value, SMALLEST))
    return ops.where(probabilities, logarithm, value)


def logit(p: Any):
    p = ops.clip(p, 1e-7, 1 - 1e-7)
    return ops.log(p) - ops.log(1 - p)


def labels_like(labels: Any, outputs: Any):
    """Integer labels without a last axis of 1, one for each position."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == len(outputs.shape):
        labels = ops.squeeze(labels, -1)
    return labels
