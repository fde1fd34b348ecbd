"""Weights of a loss that may change during training."""

from typing import Any

import keras
from keras import ops

from keras_attention.validation import check_number


def check_weight(name: str, value: Any, maximum: float | None = None) -> Any:
    """Return a weight: a number of at least 0, or a schedule as it is.

    A schedule is a `keras.optimizers.schedules.LearningRateSchedule`, or its
    serialized form.
    """
    if isinstance(value, dict):
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    return check_number(name, value, 0, maximum)


def weight_at(weight: Any, iterations: Any) -> Any:
    """Return the weight after a number of updates."""
    if isinstance(weight, float):
        return weight
    return ops.cast(weight(iterations), "float32")


def serialize_weight(weight: Any) -> Any:
    """Return a weight as a configuration has it."""
    if isinstance(weight, float):
        return weight
    return keras.saving.serialize_keras_object(weight)
