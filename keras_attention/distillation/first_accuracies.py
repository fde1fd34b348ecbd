"""How often student and teacher are right in the first steps of a training."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.model_reader import mask_of
from keras_attention.distillation.objectives.output_losses import CATEGORICAL
from keras_attention.distillation.objectives.output_losses import OutputLoss
from keras_attention.distillation.objectives.output_losses import pair_outputs
from keras_attention.distillation.objectives.output_values import teacher_output
from keras_attention.inspection.model_outputs import named_outputs
from keras_attention.inspection.model_outputs import output_shapes

# Rows of outputs whose accuracy the first steps compare.
ROWS = 1024


class FirstAccuracies:
    """Counts the right answers of a student and of its teachers.

    Args:
        student: The student.
        teachers: The teachers.

    Attributes:
        metrics: Dictionary of metrics: how many labels were `"count"`ed, and
            how many of them `"student"` and `"teacher"` were right on.
        chance: Float, the accuracy of guessing.
    """

    def __init__(self, student: keras.Model, teachers: list[keras.Model]):
        self.metrics = {
            "count": keras.metrics.Sum(name="first_count"),
            "student": keras.metrics.Mean(name="first_accuracy_of_student"),
            "teacher": keras.metrics.Mean(name="first_accuracy_of_teacher"),
        }
        self.chance = 1.0
        self._teachers = teachers
        self._pairs = [
            _pair_outputs(list(output_shapes(student)), output_shapes(teacher))
            for teacher in teachers
        ]
        # Outputs whose labels are classes, with the class that is ignored.
        self._ignored: dict[str, int | None] = {}

    def set_losses(self, losses: Mapping[str, OutputLoss]) -> None:
        """Takes note of the losses that the student was compiled with.

        Args:
            losses: The loss of each output, by its name.
        """
        self._ignored = {
            name: loss.ignore_class
            for name, loss in losses.items()
            if loss.kind == CATEGORICAL and loss.class_axis == -1
        }

    def read_teacher(self, number: int, outputs: Any) -> dict[str, Any]:
        """Returns the outputs of a teacher that are to be compared.

        Args:
            number: Of the teacher.
            outputs: The teacher's outputs, as nested as it returns them.
        """
        found = named_outputs(self._teachers[number], outputs)
        return {
            f"watched {mine}": found[his] for mine, his in self._pairs[number]
        }

    def update(
        self,
        outputs: Mapping[str, Any],
        targets: list[Mapping[str, Any]],
        labels: Mapping[str, Any],
    ) -> None:
        """Counts one batch.

        Args:
            outputs: The student's outputs by name.
            targets: What was read of each teacher.
            labels: Labels by the name of the student's output.
        """
        for number, found in enumerate(targets):
            for name, ignored in self._ignored.items():
                theirs = found.get(f"watched {name}")
                if theirs is None:
                    theirs = teacher_output(found, name)
                mine, label = outputs.get(name), labels.get(name)
                if theirs is None or label is None or mine is None:
                    continue
                if tuple(mine.shape) != tuple(theirs.shape):
                    continue
                self.chance = 1 / mine.shape[-1]
                counted, *right = _right(label, ignored, mine, theirs)
                self.metrics["teacher"].update_state(right[1], counted)
                if number == 0:
                    self.metrics["student"].update_state(right[0], counted)
                    self.metrics["count"].update_state(counted)


def _pair_outputs(student, teacher):
    """The pairs of outputs that are compared; none if that is unclear."""
    try:
        return pair_outputs(student, list(teacher))
    except ValueError:
        return []


def _right(labels, ignored, *outputs):
    """Which of the first labels of a batch count, and which outputs are right.

    Args:
        labels: Labels of one output.
        ignored: The label that does not count, or `None`.
        *outputs: Outputs, `(..., classes)`, of the student first.

    Returns:
        Ones and zeros: what counts, and for each of `outputs` what is right.
    """
    shape = outputs[0].shape
    mask = mask_of(outputs[0])
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == len(shape) and labels.shape[-1] == shape[-1]:
        labels = ops.argmax(labels, axis=-1)
    labels = ops.cast(ops.reshape(labels, (-1,)), "int32")[:ROWS]
    counted = ops.ones_like(labels, "bool")
    if ignored is not None:
        counted = ops.not_equal(labels, ignored)
    if mask is not None:
        mask = ops.cast(ops.reshape(mask, (-1,)), "bool")[:ROWS]
        counted = ops.logical_and(counted, mask)
    found = [counted]
    for each in outputs:
        each = ops.reshape(each, (-1, shape[-1]))[:ROWS]
        chosen = ops.cast(ops.argmax(each, axis=-1), "int32")
        found.append(ops.equal(chosen, labels))
    return [ops.stop_gradient(ops.cast(x, "float32")) for x in found]
