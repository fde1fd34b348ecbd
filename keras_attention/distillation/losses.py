"""The distances of attention transfer and distillation, one an example."""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.precision import widen

REDUCTIONS = ("mean", "sum", "paper")
EPSILON = 1e-12


def attention_distance(
    student: Any, teacher: Any, reduction: str = "mean"
) -> Any:
    """The distance of unit maps: `(B, M, P)` twice to `(B,)`.

    `"mean"`: the mean over positions of the squared difference, as in the
    authors' code. `"sum"`: their sum, 2 - 2 cos, which is between 0 and 2 and
    does not depend on the number of positions. `"paper"`: half the length of
    the difference, equation 2 with its factor 1/2. Where an example has
    several maps, their distances are averaged.
    """
    square = ops.square(ops.subtract(student, teacher))
    if reduction == "mean":
        distance = ops.mean(square, axis=-1)
    elif reduction == "sum":
        distance = ops.sum(square, axis=-1)
    else:
        distance = half_length(square)
    return ops.mean(distance, axis=-1)


def distillation_distance(
    student: Any, teacher: Any, temperature: float = 4.0
) -> Any:
    """T² KL(teacher || student) of the softened outputs.

    Args:
        student: logits `(..., classes)`, or logarithms of probabilities,
            which differ from logits by what the softmax takes away again.
        teacher: the same of the teacher.
        temperature: T, that divides both.

    Returns:
        `(...)`, without the classes.
    """
    student, teacher = (
        ops.log_softmax(ops.divide(widen(logits), temperature), axis=-1)
        for logits in (student, teacher)
    )
    difference = ops.exp(teacher) * (teacher - student)
    return temperature**2 * ops.sum(difference, axis=-1)


def gradient_distance(student: Any, teacher: Any) -> Any:
    """Half the length of the difference: `(B, ...)` twice to `(B,)`."""
    difference = ops.subtract(widen(student), widen(teacher))
    flat = ops.reshape(difference, (ops.shape(difference)[0], -1))
    return half_length(ops.square(flat))


def half_length(squares: Any) -> Any:
    """Half the root of the sum over the last axis.

    Epsilon inside the root makes the gradient at zero finite, and is taken
    off again: zero stays zero.
    """
    total = ops.sum(squares, axis=-1)
    return 0.5 * (ops.sqrt(total + EPSILON) - EPSILON**0.5)


def weighted_mean(values: Any, weights: Any = None, mask: Any = None) -> Any:
    """The mean of `values`, weighted and masked as Keras weights losses.

    Args:
        values: `(B, ...)`.
        weights: `None`, or weights of the leading axes of `values`; the sum
            is divided by the number of values, not by that of the weights.
        mask: `None`, or zeros and ones, or booleans, of the leading axes:
            what is 0 neither adds to the sum nor to the number.
    """
    values, count = ops.convert_to_tensor(values), None
    if mask is not None:
        mask = ops.cast(_aligned(mask, values), values.dtype)
        mask = ops.broadcast_to(mask, ops.shape(values))
        count = ops.sum(mask)
        values = values * mask
    if weights is not None:
        weights = ops.cast(weights, values.dtype)
        values = values * _aligned(weights, values)
    if count is None:
        return ops.mean(values)
    return ops.sum(values) / ops.maximum(count, 1)


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


def _aligned(weights, values):
    missing = len(values.shape) - len(weights.shape)
    if missing < 0:  # (B, 1) for (B,)
        return ops.reshape(weights, ops.shape(values))
    axes = tuple(range(len(weights.shape), len(values.shape)))
    return ops.expand_dims(weights, axes) if missing else weights
