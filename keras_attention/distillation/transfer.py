"""The parts of the loss that come from the teacher."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import attention_distance
from keras_attention.distillation.losses import distillation_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.ops.attention_maps import resize_maps
from keras_attention.ops.attention_maps import unit_maps


def maps_distance(student: Any, teacher: Any, reduction: str = "mean") -> Any:
    """The distance of maps as they come: `(B, M, ...)` twice to `(B,)`.

    Where there are other numbers of maps (heads), the mean map is compared;
    on each axis the map of more positions is averaged down to the other's.
    """
    if student.shape[1] != teacher.shape[1]:
        student = ops.mean(student, axis=1, keepdims=True)
        teacher = ops.mean(teacher, axis=1, keepdims=True)
    if student.shape[2:] != teacher.shape[2:]:
        pairs = zip(
            zip(student.shape[2:], teacher.shape[2:], strict=True),
            zip(ops.shape(student)[2:], ops.shape(teacher)[2:], strict=True),
            strict=True,
        )
        size = [
            ops.minimum(*dynamic) if None in static else min(static)
            for static, dynamic in pairs
        ]
        student, teacher = (
            resize_maps(student, size),
            resize_maps(teacher, size),
        )
    return attention_distance(unit_maps(student), unit_maps(teacher), reduction)


def distillation_part(
    logits: Mapping[str, Any],
    targets: Mapping[str, Any],
    temperature: float,
    weights: Any = None,
    masks: Mapping[str, Any] | None = None,
) -> Any:
    """The sum over outputs of the mean T² KL(teacher || student).

    Raises:
        ValueError: if an output of the teacher is missing or has other
            classes.
    """
    total = 0.0
    for name, student in logits.items():
        teacher = target(targets, name)
        if student.shape[-1] != teacher.shape[-1]:
            raise ValueError(
                "Distillation compares outputs of the same classes. Received: "
                f"'{name}' with {student.shape[-1]} classes of the student "
                f"and {teacher.shape[-1]} of the teacher. Set alpha=0, or "
                "name other layers by `logits=`."
            )
        distance = distillation_distance(student, teacher, temperature)
        mask = (masks or {}).get(name)
        total = total + weighted_mean(distance, weights, mask)
    return total


def target(targets: Mapping[str, Any], name: str) -> Any:
    """Return what was read out of the teacher under a name.

    Raises:
        ValueError: if it was not.
    """
    if name not in targets:
        raise ValueError(
            "The teacher was not asked for what the student learns from it. "
            f"Received: '{name}' is not among {sorted(targets)}. Precompute "
            "the teacher with the pairs, map function, power and logits of "
            "this model."
        )
    return targets[name]


def example_weights(sample_weight: Any) -> Any:
    """Return the weights of the examples, if the sample weights are such.

    Weights for each output or for each position are not: they belong to the
    labels.
    """
    if sample_weight is None or keras.tree.is_nested(sample_weight):
        return None
    shape = sample_weight.shape
    if len(shape) == 1:
        return sample_weight
    if len(shape) == 2 and shape[1] == 1:
        return ops.squeeze(sample_weight, axis=1)
    return None


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
