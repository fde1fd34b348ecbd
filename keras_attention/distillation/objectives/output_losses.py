"""What a model's outputs are: their losses, and how they are paired.

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
