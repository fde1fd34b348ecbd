"""Parts of the loss that compare gradients at the inputs."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.backend import value_and_input_gradient
from keras_attention.distillation.losses import gradient_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.step import Step
from keras_attention.inspection import channel_axis


def input_gradient(step: Step, loss: Callable[[Any], Any], outputs: Any) -> Any:
    """The gradient at the student's inputs of a loss of its outputs."""
    if step.pull_back is None:
        return step.gradient(loss(outputs))
    at_outputs, _ = value_and_input_gradient(
        lambda outputs: (loss(outputs), None), outputs
    )
    return step.pull_back(at_outputs)


def gradient_part(student: Any, teacher: Any, weights: Any = None) -> Any:
    """The mean distance of two models' gradients at the inputs."""
    return weighted_mean(gradient_distance(student, teacher), weights)


def symmetry_part(
    student: keras.Model,
    loss: Callable[[Any], Any],
    x: Any,
    gradient: Any,
    weights: Any = None,
    updates: Iterable[tuple[Any, Any]] = (),
) -> Any:
    """The mean distance of a gradient and that at the flipped images.

    Args:
        student: the model; its batch statistics and random state stay.
        loss: of its outputs.
        x: images.
        gradient: of the loss at `x`.
        weights: of the examples.
        updates: variables with the values that the first pass left them.
    """
    width = -1 if channel_axis(student) == 1 else -2
    mapping = [*((v, v.value) for v in student.variables), *updates]
    with keras.StatelessScope(state_mapping=mapping):
        there, _ = value_and_input_gradient(
            lambda x: (loss(student(x, training=True)), None),
            ops.flip(x, width),
        )
    return gradient_part(gradient, ops.flip(there, width), weights)


def sum_of_losses(loss: Any, y: Any, y_pred: Any) -> Any:
    """The sum over examples of a loss, unweighted.

    Args:
        loss: what was given to `compile`: a name, a function or a `Loss`.
        y: labels.
        y_pred: the one output of a model.

    Raises:
        ValueError: without labels, or if there are several outputs or losses.
    """
    if (
        y is None
        or loss is None
        or any(keras.tree.is_nested(each) for each in (y, y_pred, loss))
    ):
        raise ValueError(
            "The gradients of the loss at the inputs are compared for models "
            "with labels, one output and one loss. Received: "
            f"loss={loss!r}, y={type(y).__name__}. Set gradient_transfer=0 "
            "and symmetry=0."
        )
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        loss = loss.call
    return ops.sum(loss(y, y_pred))
