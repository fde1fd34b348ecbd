from collections.abc import Mapping
from typing import Any

import keras

from keras_attention.distillation.losses import gradient_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.model_reader import INPUT_GRADIENT
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import target


class GradientObjective(Objective):
    """The base of objectives that compare gradients of the label loss.

    A training step puts these gradients at the inputs among what is read.
    They need labels, one output, and a second-order gradient.
    """

    def read_student(self, reading: Reading):
        return {}

    def read_teacher(self, reading: Reading):
        return {}

    def part_names(self):
        return []

    def distance(self, first: Any, second: Any, batch: Any) -> Any:
        """Computes half the mean length of the difference of gradients."""
        return weighted_mean(
            gradient_distance(first, second), batch.weights.of_examples()
        )


@keras.saving.register_keras_serializable(package="keras_attention")
class InputGradients(GradientObjective):
    """Gradient-based attention transfer.

    Half the length of the difference between the gradients of the label loss
    at the inputs of the two models: 1/2 · ||J_S - J_T||. It needs labels, one
    output, and a second-order gradient.

    Args:
        weight: Factor of the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1.
        name: Name of the objective. Defaults to `"gradient"`.

    Source: Zagoruyko and Komodakis, arXiv:1612.03928, equation 3.

    Example:

    >>> from keras_attention.distillation import InputGradients
    >>> InputGradients(0.5).loss_name
    'gradient_loss'
    """

    def __init__(self, weight: Any = 1.0, name: str = "gradient"):
        super().__init__(weight, name)

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        if teacher is None:
            raise ValueError(
                "Gradient-based transfer needs the teacher in every step. "
                "Received: teacher=None"
            )

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        found = self.distance(
            student[INPUT_GRADIENT], target(teacher, INPUT_GRADIENT), batch
        )
        return {self.loss_name: found}


@keras.saving.register_keras_serializable(package="keras_attention")
class FlipSymmetry(GradientObjective):
    """Symmetry of the gradients under horizontal flips.

    Half the length of the difference between the gradient of the student's
    label loss at an image and the flipped gradient at the flipped image. It
    runs the student once more, without effect on its state, and does not need
    a teacher.

    Args:
        weight: Factor of the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1.
        name: Name of the objective. Defaults to `"symmetry"`.

    Source: Zagoruyko and Komodakis, arXiv:1612.03928, section 3.2.

    Example:

    >>> from keras_attention.distillation import FlipSymmetry
    >>> FlipSymmetry(0.5).loss_name
    'symmetry_loss'
    """

    def __init__(self, weight: Any = 1.0, name: str = "symmetry"):
        super().__init__(weight, name)

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        found = self.distance(
            student[INPUT_GRADIENT], student["flipped gradient"], batch
        )
        return {self.loss_name: found}
