"""The class scores of a classifier, before its softmax or sigmoid.

The last activation is bypassed while the model runs, and the model is left as
it was. That what comes out are the scores is checked: the activation of them
must be what the model returns.
"""

import threading
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import record_outputs
from keras_attention.inspection import walk_layers
from keras_attention.inspection.model_outputs import layer_activation
from keras_attention.inspection.model_outputs import named_outputs
from keras_attention.types import Tensor
from keras_attention.visualization.readings import to_numpy

FUNCTIONS = {
    "softmax": keras.activations.softmax,
    "log_softmax": keras.activations.log_softmax,
    "sigmoid": keras.activations.sigmoid,
}
# What half precision leaves of a probability.
RELATIVE, ABSOLUTE = 2e-2, 1e-5


@dataclass(frozen=True)
class ScoreActivation:
    """The activation that turns class scores into a model's output.

    Attributes:
        name: A key of `FUNCTIONS`.
        layer: The layer or operation that has it or is it.
    """

    name: str
    layer: Any

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Leave the activation out while the body runs, in this thread."""
        attribute = next(
            name
            for name in ("activation", "function", "call")
            if callable(getattr(self.layer, name, None))
        )
        original = getattr(self.layer, attribute)
        thread = threading.get_ident()

        def bypass(inputs, *args, **kwargs):
            if threading.get_ident() == thread:
                return inputs
            return original(inputs, *args, **kwargs)

        with replaced(self.layer, attribute, bypass):
            yield


@contextmanager
def replaced(layer: Any, attribute: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a layer while the body runs.

    It is set without Keras' tracking, over the method of the class or the
    sublayer of that name.
    """
    own = vars(layer)
    before = own.get(attribute)
    own[attribute] = value
    try:
        yield
    finally:
        if before is None:
            del own[attribute]
        else:
            own[attribute] = before


def choose_output(model: keras.Model, outputs: Any, output: Any) -> Tensor:
    """Return the output of a model that has the class scores.

    Args:
        model: The model.
        outputs: What it returns.
        output: Name or number of the output; `None` for the only one.

    Raises:
        ValueError: If there is no such output, or it is not
            `(batch, classes)`.
    """
    named = named_outputs(model, outputs)
    name = list(named)[output_number(model, list(named), output)]
    if len(named[name].shape) != 2:
        raise ValueError(
            "Class activation is defined for a classifier's output of shape "
            f"(batch, classes). Received: output '{name}' of model "
            f"'{model.name}' of shape {tuple(named[name].shape)}"
        )
    return named[name]


def output_number(model: keras.Model, names: list[str], output: Any) -> int:
    """Return the number of an output that is given by its name or number."""
    if output is None and len(names) == 1:
        return 0
    if output is None:
        raise ValueError(
            f"Model '{model.name}' has several outputs: {names}. Name the one "
            "that has the class scores. Received: output=None"
        )
    if isinstance(output, str) and output in names:
        return names.index(output)
    is_number = isinstance(output, int) and not isinstance(output, bool)
    if is_number and 0 <= output < len(names):
        return output
    raise ValueError(
        "`output` must be the name or the number of an output of model "
        f"'{model.name}', which has {names}. Received: output={output!r}"
    )


def find_score_activation(
    model: keras.Model,
    inputs: Tensor,
    output: Any = None,
    layer: str | None = None,
) -> tuple[ScoreActivation | None, np.ndarray, Tensor | None]:
    """Find the softmax or sigmoid that gives a classifier's output.

    The layers with such an activation are tried from the last that is called
    to the first.

    Returns:
        The activation, or `None` if there is none; the model's output; the
        output of `layer`.

    Raises:
        ValueError: As `choose_output`.
    """
    candidates = {
        path: ScoreActivation(name, layer)
        for path, layer in walk_layers(model)
        if (name := _activation_name(layer)) is not None
    }
    names = [*candidates, *([layer] if layer else [])]
    with record_outputs(model, names) as values:
        outputs = model(inputs, training=False)
    value = values[layer] if layer else None
    found = to_numpy(choose_output(model, outputs, output))
    called = [path for path, _ in values.in_order()]
    for path, given in reversed(values.in_order()):
        is_candidate = path in candidates and called.count(path) == 1
        if not is_candidate or _size(given) != found.size:
            continue
        activation = candidates[path]
        with activation.bypassed():
            scores = model(inputs, training=False)
        scores = to_numpy(choose_output(model, scores, output))
        probabilities = to_numpy(
            FUNCTIONS[activation.name](keras.ops.convert_to_tensor(scores))
        )
        if not are_exclusive(scores) and np.allclose(
            probabilities, found, RELATIVE, ABSOLUTE
        ):
            return activation, found, value
    return None, found, value


def hides_softmax(
    activation: ScoreActivation | None, outputs: np.ndarray
) -> bool:
    """Return whether outputs come of a softmax that was not found."""
    return activation is None and (
        are_exclusive(outputs)
        or bool((outputs <= 0).all() and are_exclusive(np.exp(outputs)))
    )


def check_scores(
    model: keras.Model, activation: ScoreActivation | None, outputs: np.ndarray
) -> None:
    """Raise if the scores before the softmax are not known."""
    if hides_softmax(activation, outputs):
        raise ValueError(
            f"Model '{model.name}' returns probabilities, and the softmax that "
            "makes them is in none of its layers, so that the class scores "
            "before it are not known. Write it as keras.layers.Softmax or as "
            "the activation of the last layer, or pass a model that returns "
            "the scores."
        )


def are_exclusive(values: np.ndarray) -> bool:
    """Return whether each row is probabilities of exclusive classes."""
    return bool(
        values.shape[1] > 1
        and (values >= 0).all()
        and np.allclose(values.sum(1), 1, atol=RELATIVE)
    )


def class_probabilities(
    activation: ScoreActivation | None, outputs: np.ndarray
) -> np.ndarray:
    """Return the probability of each class, `(count, classes)`.

    Outputs without an activation are taken as logits, if they are not
    probabilities. A single output is the probability of class 1 of two.
    """
    name = None if activation is None else activation.name
    if name is None and are_exclusive(outputs):
        name = "softmax"
    values = outputs.astype("float64")
    if values.shape[1] == 1:
        if name is None:
            values = 1 / (1 + np.exp(-values))
        return np.concatenate([1 - values, values], 1)
    if name is None or name == "log_softmax":
        values = np.exp(values - values.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
    return values


def class_texts(
    name: str,
    classes: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[Any] | None,
) -> list[tuple[str, float]]:
    """Return the name of a class of each image, and its probability."""
    units = probabilities.shape[1]
    if class_names is None:
        class_names = [f"class {number}" for number in range(units)]
    if len(class_names) != units:
        raise ValueError(
            "`class_names` must name each class of the model's output. "
            f"Received: {len(class_names)} class names for model '{name}' "
            f"with {units} classes"
        )
    return [
        (str(class_names[number]), float(row[number]))
        for number, row in zip(classes, probabilities, strict=True)
    ]


def _activation_name(layer):
    if type(layer).__name__ == "LogSoftmax" or (
        getattr(layer, "activation", None) is keras.activations.log_softmax
    ):
        return "log_softmax"
    name = layer_activation(layer)
    return name if name in FUNCTIONS else None


def _size(value):
    return np.prod(value.shape) if hasattr(value, "shape") else None
