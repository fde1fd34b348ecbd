"""The objectives of a model, bound to the layers of student and teachers."""

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.first_accuracies import FirstAccuracies
from keras_attention.distillation.model_reader import INPUT_GRADIENT
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.model_reader import check_inputs
from keras_attention.distillation.objectives.attention_copy import AttentionCopy
from keras_attention.distillation.objectives.copied_scores import copied_scores
from keras_attention.distillation.objectives.features import Features
from keras_attention.distillation.objectives.input_gradients import FlipSymmetry
from keras_attention.distillation.objectives.input_gradients import (
    GradientObjective,
)
from keras_attention.distillation.objectives.input_gradients import (
    InputGradients,
)
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import loss_dtype
from keras_attention.distillation.objectives.output_losses import OutputLoss
from keras_attention.distillation.objectives.sample_weights import SampleWeights
from keras_attention.distillation.pairs import Pairs
from keras_attention.distillation.teacher_cache import TARGETS
from keras_attention.distillation.teacher_cache import is_precomputed
from keras_attention.inspection import channel_axis
from keras_attention.inspection.model_outputs import named_outputs
from keras_attention.ops.gradients import value_and_input_gradient


@dataclass(frozen=True)
class Bound:
    """An objective that has found its layers in the student and a teacher.

    Args:
        number: Of the objective.
        objective: The copy for these two models.
        teacher: Number of the teacher, or `None` if the objective has none.
        teacher_weight: Weight of the teacher.
    """

    number: int
    objective: Objective
    teacher: int | None
    teacher_weight: float


class BoundObjectives:
    """All objectives of a model, for its student and its teachers.

    Keras does not see the models in here, so that it does not train the
    teachers.

    Args:
        objectives: The objectives.
        student: The student.
        teachers: The teachers; empty if their outputs have been computed
            before.
        teacher_weights: The weight of each teacher.

    Attributes:
        bound: A `Bound` for each objective and teacher.
        student_reader: The `ModelReader` of the student.
        teacher_readers: That of each teacher.
        accuracies: Counts who is right in the first steps.
        needs_teacher: Whether a step compares the student with a teacher.
        compares_gradients: Whether a step needs gradients at the inputs.
        compares_teacher_gradients: Whether it needs the teacher's.
        compares_flips: Whether it needs gradients at the flipped inputs.
        copies: Whether the student uses attention scores of a teacher.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        student: keras.Model,
        teachers: Sequence[keras.Model],
        teacher_weights: Sequence[float],
    ):
        self.objectives = list(objectives)
        self.student = student
        self.teachers = list(teachers)
        self.teacher_weights = list(teacher_weights)
        for teacher in teachers:
            check_inputs(student, teacher)
        self.student_reader = ModelReader(
            student, self.teachers[0] if teachers else None
        )
        self.teacher_readers = [
            ModelReader(teacher, student) for teacher in teachers
        ]
        self.bound = self._bind()
        self.accuracies = FirstAccuracies(student, self.teachers)
        self.needs_teacher = any(
            each.teacher is not None for each in self.bound
        )
        self.compares_gradients = self._has(GradientObjective)
        self.compares_teacher_gradients = self._has(InputGradients)
        self.compares_flips = self._has(FlipSymmetry)
        self.copies = self._has(AttentionCopy)

    @property
    def pairs(self) -> Pairs:
        """The pairs of layers that are compared."""
        pairs = [pair for each in self.bound for pair in each.objective.pairs]
        return Pairs(dict.fromkeys(pairs))

    @property
    def projections(self) -> list[keras.layers.Layer]:
        """Layers that are trained with the student."""
        return [
            layer
            for each in self.bound
            if isinstance(each.objective, Features)
            for layer in each.objective.projections.values()
        ]

    @property
    def part_names(self) -> list[str]:
        """The names of all parts of the loss that the objectives report."""
        names: list[str] = []
        for each in self.bound:
            names += [each.objective.loss_name, *each.objective.part_names()]
        return names

    def set_losses(self, losses: Mapping[str, OutputLoss]) -> None:
        """Has the objectives take note of the student's losses.

        Args:
            losses: The loss of each output, by its name.
        """
        for each in self.bound:
            each.objective.set_losses(self.student, losses)
        self.accuracies.set_losses(losses)

    def weights_at(self, iterations: Any) -> list[Any]:
        """Returns the weight of each objective after a number of updates."""
        return [each.weight_at(iterations) for each in self.objectives]

    def label_weight(self, weights: Sequence[Any]) -> Any:
        """Returns what the objectives leave to the labels: 1 - alpha.

        Args:
            weights: What `weights_at` returned.
        """
        pairs = zip(weights, self.objectives, strict=True)
        return 1 - sum(weight for weight, o in pairs if o.replaces_labels)

    def read_teacher(self, number: int, reading: Reading) -> dict[str, Any]:
        """Returns what the objectives keep of a teacher's pass.

        Args:
            number: Of the teacher.
            reading: What the pass has given.
        """
        found = {}
        for each in self.bound:
            if each.teacher == number:
                found.update(each.objective.read_teacher(reading))
        return found

    def read_teachers(self, inputs: Any) -> list[dict[str, Any]]:
        """Runs the teachers; returns what the objectives keep of each."""
        return [
            reader.read(inputs, partial(self.read_teacher, number))
            for number, reader in enumerate(self.teacher_readers)
        ]

    def targets(self, x: Any, y: Any, loss: Any) -> list[dict[str, Any]]:
        """Returns what a training step compares the student with.

        Args:
            x: Inputs, or inputs with the teachers' outputs.
            y: Labels, or `None`.
            loss: What was given to `compile`.

        Raises:
            ValueError: If there is neither a teacher nor its outputs.
        """
        if is_precomputed(x):
            return self._split(x[TARGETS])
        if self.needs_teacher and not self.teachers:
            raise ValueError(
                "Without a teacher, training needs data with the teacher's "
                "outputs. Received: teacher=None and data without them. Use "
                "the data that `precompute_teacher` returns."
            )
        label_loss = None
        if self.compares_teacher_gradients:
            label_loss = partial(sum_of_losses, loss, y)

        def read(number, reading):
            return {
                **self.read_teacher(number, reading),
                **self.accuracies.read_teacher(number, reading.outputs),
            }

        return [
            reader.read(x, partial(read, number), label_loss)
            for number, reader in enumerate(self.teacher_readers)
        ]

    def copying(self, targets: Any) -> AbstractContextManager:
        """Returns a context in which the student uses a teacher's scores.

        Args:
            targets: What was read of each teacher.
        """
        scores = {}
        for each in self.bound:
            if isinstance(each.objective, AttentionCopy):
                scores.update(each.objective.scores(targets[each.teacher]))
        return copied_scores(self.student, scores) if scores else nullcontext()

    def losses(
        self,
        step: Any,
        loss: Any,
        x: Any,
        y: Any,
        y_pred: Any,
        sample_weight: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Computes what the objectives add to the loss.

        Args:
            step: The `Step`.
            loss: What was given to `compile`.
            x: Inputs.
            y: Labels, or `None`.
            y_pred: The student's outputs.
            sample_weight: Weights, or `None`.

        Returns:
            The sum, and its parts by name.
        """
        outputs = named_outputs(self.student, y_pred)
        labels = {} if y is None else _labels_by_output(y, outputs)
        batch = Batch(labels, SampleWeights(sample_weight, list(outputs)))
        reading = self.student_reader.reading(step.values, y_pred)
        # Before the student runs once more, on flipped images.
        read = [each.objective.read_student(reading) for each in self.bound]
        gradients = {}
        if self.compares_gradients:
            label_loss = partial(sum_of_losses, loss, y)
            gradients = self._input_gradients(step, label_loss, x, y_pred)
        self.accuracies.update(outputs, step.targets, labels)
        total, parts = 0.0, {}
        for each, found in zip(self.bound, read, strict=True):
            objective = each.objective
            student, teacher = {**found, **gradients}, {}
            if each.teacher is not None:
                teacher = step.targets[each.teacher]
            student, teacher = _of_same_precision(student, teacher)
            weight = step.weights[each.number] * each.teacher_weight
            for name, part in objective.parts(student, teacher, batch).items():
                part = weight * ops.cast(part, loss_dtype())
                for key in dict.fromkeys((name, objective.loss_name)):
                    parts[key] = parts[key] + part if key in parts else part
                total = total + part
        return total, parts

    def _bind(self):
        """Has each objective find its layers in the student and a teacher."""
        found = []
        for number, objective in enumerate(self.objectives):
            if isinstance(objective, FlipSymmetry):
                bound = objective.bind(self.student_reader, None)
                found.append(Bound(number, bound, None, 1.0))
                continue
            if isinstance(objective, AttentionCopy) and len(self.teachers) > 1:
                raise ValueError(
                    "Attention is copied from one teacher. Received: "
                    f"AttentionCopy with {len(self.teachers)} teachers"
                )
            readers = self.teacher_readers or [None]
            for place, (reader, weight) in enumerate(
                zip(readers, self.teacher_weights, strict=True)
            ):
                bound = objective.bind(self.student_reader, reader)
                found.append(Bound(number, bound, place, weight))
        return found

    def _has(self, kind):
        return any(isinstance(objective, kind) for objective in self.objectives)

    def _split(self, targets):
        """Precomputed outputs of each teacher, by name."""
        targets = {
            name: ops.convert_to_tensor(value)
            for name, value in targets.items()
        }
        count = len(self.teacher_weights)
        if count == 1:
            return [targets]
        return [
            {
                name.removeprefix(f"{number}|"): value
                for name, value in targets.items()
                if name.startswith(f"{number}|")
            }
            for number in range(count)
        ]

    def _input_gradients(self, step, loss, x, y_pred):
        """The gradients of the label loss at the inputs, and at their flip."""
        if step.pull_back is None:
            here = step.gradient(loss(y_pred))
        else:
            at_outputs, _ = value_and_input_gradient(
                lambda outputs: (loss(outputs), None), y_pred
            )
            here = step.pull_back(at_outputs)
        found = {INPUT_GRADIENT: here}
        if self.compares_flips:
            found["flipped gradient"] = self._flipped_gradient(step, loss, x)
        return found

    def _flipped_gradient(self, step, loss, x):
        """The gradient at the flipped images, flipped back.

        The student's batch statistics and random state stay as they are.
        """
        student = self.student
        width = -1 if channel_axis(student) == 1 else -2
        mapping = [*((v, v.value) for v in student.variables), *step.updates]
        with keras.StatelessScope(state_mapping=mapping):
            there, _ = value_and_input_gradient(
                lambda x: (loss(student(x, training=True)), None),
                ops.flip(x, width),
            )
        return ops.flip(there, width)


def sum_of_losses(loss: Any, y: Any, y_pred: Any) -> Any:
    """Returns the sum over examples of a loss, without weights.

    Args:
        loss: What was given to `compile`: a name, a function or a `Loss`.
        y: Labels.
        y_pred: The one output of a model.

    Raises:
        ValueError: Without labels, or if there are several outputs or losses.
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


def _labels_by_output(y, outputs):
    """Labels by the name of the output."""
    if isinstance(y, Mapping):
        paths = keras.tree.flatten_with_path(dict(y))
        return {"/".join(map(str, path)): label for path, label in paths}
    flat = keras.tree.flatten(y)
    return dict(zip(outputs, flat, strict=False))


def _of_same_precision(student, teacher):
    """What was read of both, in float64 if any of the student's is.

    An output may be in float32 where the gradients at the images are not.
    """
    wide = any(
        keras.backend.standardize_dtype(x.dtype) == "float64"
        for x in student.values()
    )

    def cast(found):
        return {
            name: ops.cast(value, "float64" if wide else "float32")
            if "float" in keras.backend.standardize_dtype(value.dtype)
            else value
            for name, value in found.items()
        }

    return cast(student) if wide else student, cast(teacher)
