"""Checks of what `AttentionTransferModel` is made of."""

from typing import Any

import keras


def check_models(student: Any, teacher: Any) -> None:
    """Check that both are models, and two; the teacher may be `None`.

    Raises:
        TypeError: if one is no Keras model.
        ValueError: if they are one.
    """
    for name, model in (("student", student), ("teacher", teacher)):
        if name == "teacher" and model is None:
            continue
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"`{name}` must be a Keras model. "
                f"Received: {name}={model!r} (of type {type(model).__name__})"
            )
    if student is teacher:
        raise ValueError(
            "`student` and `teacher` must be two models. Received: one model "
            f"as both, '{student.name}'. `keras.models.clone_model` copies it."
        )


def check_logits(logits: Any) -> tuple[str, str] | None:
    """Return the names of the layers with the logits, or `None`.

    Raises:
        TypeError: if it is neither `None`, a name nor a pair of names.
    """
    if logits is None:
        return None
    if isinstance(logits, str):
        return (logits, logits)
    if (
        isinstance(logits, list | tuple)
        and len(logits) == 2
        and all(isinstance(name, str) for name in logits)
    ):
        return tuple(logits)
    raise TypeError(
        "`logits` must be None, the name of a layer that has the logits, or a "
        f"(student, teacher) pair of names. Received: logits={logits!r}"
    )


def training_policy(student: keras.Model) -> Any:
    """Return the policy that `compile` looks at to decide on loss scaling.

    It is the model's, unless layers of a float32 model are of mixed_float16.
    """
    policies = [student.dtype_policy]
    policies += [layer.dtype_policy for layer in student._flatten_layers()]
    scaled = [policy for policy in policies if policy.name == "mixed_float16"]
    return (scaled or policies)[0]
