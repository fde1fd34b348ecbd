"""Checks of the models that `AttentionTransferModel` is made of."""

import warnings
from typing import Any

import keras

from keras_attention.inspection import walk_layers
from keras_attention.validation import check_number

# What a model may define for its own training, and `fit` would not use.
OWN_METHODS = ("train_step", "compute_loss", "test_step", "compute_metrics")


def check_models(student: Any, teachers: list[Any]) -> None:
    """Checks that the models are different Keras models that can be trained.

    Raises:
        TypeError: If one is not a Keras model.
        ValueError: If two are one model, share trainable layers, or the
            student has a training step of its own.
    """
    for name, model in (
        ("student", student),
        *(("teacher", teacher) for teacher in teachers),
    ):
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"`{name}` must be a Keras model. "
                f"Received: {name}={model!r} (of type {type(model).__name__})"
            )
    if any(student is teacher for teacher in teachers):
        raise ValueError(
            "`student` and `teacher` must be two models. Received: one model "
            f"as both, '{student.name}'. `keras.models.clone_model` copies it."
        )
    _check_own_methods(student)
    for teacher in teachers:
        _check_shared_layers(student, teacher)
    _check_augmentation(student)


def check_order(models: tuple[Any, ...]) -> None:
    """Warns of two models in the order of `keras.distillation.Distiller`.

    Args:
        models: The positional arguments of the constructor.
    """
    if len(models) < 2 or not all(
        isinstance(model, keras.Model) and model.built for model in models[:2]
    ):
        return
    student, teacher = (model.count_params() for model in models[:2])
    if student > teacher:
        warnings.warn(
            f"The student '{models[0].name}' has more parameters, "
            f"{student:,}, than the teacher '{models[1].name}', {teacher:,}. "
            "AttentionTransferModel takes (student, teacher), where "
            "keras.distillation.Distiller takes (teacher, student). If that "
            "is meant, name them: student=..., teacher=...",
            stacklevel=3,
        )


def teacher_list(teacher: Any) -> list[keras.Model]:
    """Returns the teachers of the constructor's argument as a list."""
    if teacher is None:
        return []
    if isinstance(teacher, list | tuple):
        if not teacher:
            raise ValueError(
                "`teacher` must be a model or a list of at least one. "
                "Received: an empty list"
            )
        return list(teacher)
    return [teacher]


def check_teacher_weights(
    weights: Any, teachers: list[keras.Model]
) -> list[float]:
    """Returns a weight for each teacher; their sum is 1.

    Raises:
        ValueError: If they are not such weights.
    """
    count = max(len(teachers), 1)
    if weights is None:
        return [1 / count] * count
    if not isinstance(weights, list | tuple) or (
        teachers and len(weights) != count
    ):
        raise ValueError(
            "`teacher_weights` must be a list with one number for each of "
            f"the {count} teachers. Received: teacher_weights={weights!r}"
        )
    weights = [check_number("teacher_weights", each, 0) for each in weights]
    total = sum(weights)
    if total <= 0:
        raise ValueError(
            "`teacher_weights` must have a positive sum. "
            f"Received: teacher_weights={weights!r}"
        )
    return [weight / total for weight in weights]


def training_policy(student: keras.Model) -> Any:
    """Returns the policy that `compile` looks at to decide on loss scaling.

    It is the model's, unless layers of a float32 model are of mixed_float16.
    """
    policies = [student.dtype_policy]
    policies += [layer.dtype_policy for layer in student._flatten_layers()]
    scaled = [policy for policy in policies if policy.name == "mixed_float16"]
    return (scaled or policies)[0]


def _check_own_methods(student):
    own = [
        name
        for name in OWN_METHODS
        if getattr(type(student), name) is not getattr(keras.Model, name)
        or name in vars(student)
    ]
    if own:
        raise ValueError(
            "The student is trained by AttentionTransferModel's own step, "
            "which would not use the student's. Received: a "
            f"{type(student).__name__} with its own {', '.join(own)}. Give "
            "the network inside it, or a functional model of its inputs and "
            "outputs: keras.Model(student.inputs, student.outputs). What the "
            "step added to the loss can be added by `add_loss` in a layer."
        )


def _check_shared_layers(student, teacher):
    theirs = {id(v) for v in teacher.variables}
    shared = [
        path
        for path, layer in walk_layers(student)
        if isinstance(layer, keras.layers.Layer)
        and not list(layer._flatten_layers(include_self=False))
        and any(id(v) in theirs for v in _changing_variables(layer))
    ]
    if shared:
        raise ValueError(
            "The student and the teacher share layers, so training the "
            "student would change the teacher. Received: "
            f"{', '.join(map(repr, shared[:5]))} in both. Build the student "
            "from copies (`keras.models.clone_model` and `set_weights`), or "
            "set `trainable = False` on the shared layers."
        )


def _changing_variables(layer):
    """What training changes: weights, and statistics of batches."""
    if layer.trainable and not isinstance(layer, keras.layers.Normalization):
        return layer.weights
    return layer.trainable_variables


def _check_augmentation(student):
    found = [
        path
        for path, layer in walk_layers(student)
        if _draws_images(type(layer))
    ]
    if found:
        warnings.warn(
            "The student augments its images itself, in "
            f"{', '.join(map(repr, found[:5]))}, so that the teacher sees "
            "other images than the student. Move these layers from the model "
            "to the data set.",
            stacklevel=4,
        )


def _draws_images(layer_class):
    return layer_class.__name__.startswith(("Random", "AugMix", "CutMix",
        "MixUp", "RandAugment", "AutoContrast", "GridMask", "Jittered")
    ) and hasattr(layer_class, "call")  # fmt: skip
