"""What a model's outputs are: their names, losses, and how they are paired.

An output is told to be of exclusive classes, of independent labels or a
regression by the loss that the student is compiled with, or else by the
activation that gives it.
"""

import functools
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import input_tensors
from keras_attention.inspection import layer_outputs

CATEGORICAL, BERNOULLI, REGRESSION = "categorical", "bernoulli", "regression"
# Of each kind, the names of Keras' losses and of the functions behind them.
KINDS_OF_LOSSES = {
    CATEGORICAL: (
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_generalized_cross_entropy",
        "sparse_categorical_crossentropy",
        "kl_divergence",
    ),
    BERNOULLI: ("binary_crossentropy", "binary_focal_crossentropy"),
    REGRESSION: (
        "huber",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
    ),
}


@dataclass(frozen=True)
class OutputLoss:
    """The loss that one output was compiled with.

    Args:
        loss: A name, a function, a `keras.losses.Loss`, or `None`.
        weight: Its weight in the sum of the losses.
    """

    loss: Any
    weight: float = 1.0

    @property
    def kind(self) -> str | None:
        """What the output is; `None` if the loss does not tell."""
        name = _function_name(self.loss)
        for kind, names in KINDS_OF_LOSSES.items():
            if name in names:
                return kind
        return None

    @property
    def ignore_class(self) -> int | None:
        """The label whose positions count in no loss."""
        return self._argument("ignore_class")

    @property
    def class_axis(self) -> int:
        """The axis of the classes."""
        axis = self._argument("axis")
        return -1 if axis is None else int(axis)

    @property
    def reduction(self) -> str | None:
        """How the values of a batch are reduced to one."""
        return getattr(self.loss, "reduction", None)

    def _argument(self, name):
        """An argument of the loss; `None` if it has no such one."""
        if isinstance(self.loss, functools.partial):
            return self.loss.keywords.get(name)
        found = getattr(self.loss, name, None)
        return getattr(self.loss, "_fn_kwargs", {}).get(name, found)


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Returns a model's outputs by name, in their order.

    Args:
        model: The model.
        outputs: What it returns: a tensor, a list, or a dict, whose keys are
            the names.
    """
    if isinstance(outputs, Mapping):
        paths = keras.tree.flatten_with_path(outputs)
        return {"/".join(map(str, path)): value for path, value in paths}
    flat = keras.tree.flatten(outputs)
    names = output_names(model, len(flat))
    return dict(zip(names, flat, strict=True))


def output_names(model: keras.Model, count: int) -> list[str]:
    """Returns the names of a model's outputs that are not a dictionary."""
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != count or len(set(names)) != count:
        return [f"output_{number}" for number in range(count)]
    return names


def output_shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """Returns the shape of each output by name, `None` where it is open."""
    if getattr(model, "outputs", None):
        outputs = model.outputs
        if not isinstance(model, keras.Sequential):
            outputs = model.output
        found = named_outputs(model, outputs)
        return {name: tuple(tensor.shape) for name, tensor in found.items()}

    class Trace(keras.layers.Layer):
        def call(self, inputs: Any):
            return model(inputs, training=False)

    outputs = Trace(dtype="float32", autocast=False)(input_tensors(model))
    found = named_outputs(model, outputs)
    return {name: tuple(tensor.shape) for name, tensor in found.items()}


def output_losses(
    model: keras.Model, names: Sequence[str]
) -> dict[str, OutputLoss]:
    """Returns the loss of each output that a model was compiled with."""
    loss, weights = model.loss, _loss_weights(model)
    if isinstance(loss, Mapping):
        losses = {
            "/".join(map(str, path)): each
            for path, each in keras.tree.flatten_with_path(dict(loss))
        }
    elif isinstance(loss, list | tuple):
        losses = dict(zip(names, loss, strict=False))
    else:
        losses = dict.fromkeys(names, loss)
    if isinstance(weights, Mapping):
        by_name = dict(weights)
    elif isinstance(weights, list | tuple):
        by_name = dict(zip(names, weights, strict=False))
    else:
        by_name = dict.fromkeys(names, weights)
    return {
        name: OutputLoss(
            losses.get(name),
            1.0 if by_name.get(name) is None else float(by_name[name]),
        )
        for name in names
    }


def pair_outputs(
    student: Sequence[str], teacher: Sequence[str]
) -> list[tuple[str, str]]:
    """Pairs outputs by name; by position only where names say nothing.

    Args:
        student: Names of the student's outputs, in their order.
        teacher: Names of the teacher's outputs.

    Raises:
        ValueError: If an output of the student has no partner.
    """
    if len(student) == len(teacher) == 1:
        return [(student[0], teacher[0])]
    shared = set(student) & set(teacher)
    if not shared and len(student) == len(teacher):
        return list(zip(student, teacher, strict=True))
    missing = [name for name in student if name not in shared]
    if missing:
        raise ValueError(
            "The outputs of student and teacher are paired by name, and "
            f"these of the student have no partner: {missing}. Received: "
            f"outputs {list(student)} of the student and {list(teacher)} of "
            "the teacher. Name what is compared by `logits=[(student, "
            "teacher), ...]`, or set alpha=0."
        )
    return [(name, name) for name in student]


def output_activations(model: keras.Model) -> dict[int, str]:
    """Returns the activation of each output of a model, by its number.

    `"softmax"`, `"sigmoid"` or `"linear"`. The layer or operation that gives
    an output is asked, and its activation function tried out, so that a
    function of another name or library is recognized. Outputs for which that
    fails are left out.
    """
    found: dict[int, str] = {}
    for output in layer_outputs(model):
        for number in output.ends:
            activation = layer_activation(output.layer)
            if activation is not None:
                # What holds a layer gives the same value after it, and later.
                found.setdefault(number, activation)
    return found


def layer_activation(layer: Any) -> str | None:
    """Returns the activation of one layer; `None` if it cannot be told."""
    name = type(layer).__name__.lower()
    if name in ("softmax", "sigmoid"):
        return name
    for attribute in ("activation", "function"):
        function = getattr(layer, attribute, None)
        if callable(function):
            return _try_out(function)
    return None


def _try_out(function):
    """Tells an activation function by what it makes of a few numbers."""
    x = np.array([[-3.0, -0.5, 0.25, 2.0]], "float32")
    exponential = np.exp(x)
    known = {
        "softmax": exponential / exponential.sum(),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "linear": x,
    }
    try:
        y = function(keras.ops.convert_to_tensor(x))
        y = np.asarray(keras.ops.convert_to_numpy(y), "float32")
    # A user's function may raise anything of an input that is not its own.
    except Exception:
        return None
    for name, expected in known.items():
        if y.shape == x.shape and np.allclose(y, expected, atol=1e-4):
            return name
    return None


def _function_name(loss):
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if isinstance(loss, functools.partial):
        loss = loss.func
    if isinstance(loss, keras.losses.Loss):
        function = getattr(loss, "fn", None)
        loss = type(loss) if function is None else function
    name = getattr(loss, "__name__", "")
    aliases = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}
    return aliases.get(name, name)


def _loss_weights(model):
    compiled = getattr(model, "_compile_loss", None)
    return getattr(compiled, "_user_loss_weights", None)
