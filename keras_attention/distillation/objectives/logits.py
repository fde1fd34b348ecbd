from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import bernoulli_distance
from keras_attention.distillation.losses import distillation_distance
from keras_attention.distillation.losses import squared_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import check_weight
from keras_attention.distillation.objectives.objective import combined_mask
from keras_attention.distillation.objectives.objective import target
from keras_attention.distillation.objectives.output_losses import BERNOULLI
from keras_attention.distillation.objectives.output_losses import CATEGORICAL
from keras_attention.distillation.objectives.output_losses import REGRESSION
from keras_attention.distillation.objectives.output_losses import OutputLoss
from keras_attention.distillation.objectives.output_losses import pair_outputs
from keras_attention.distillation.objectives.output_values import SMALLEST
from keras_attention.distillation.objectives.output_values import OutputReader
from keras_attention.distillation.objectives.output_values import as_logits
from keras_attention.distillation.objectives.output_values import check_layers
from keras_attention.distillation.objectives.output_values import labels_like
from keras_attention.distillation.objectives.output_values import logit
from keras_attention.distillation.objectives.output_values import teacher_output
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_number

KINDS = (CATEGORICAL, BERNOULLI, REGRESSION)
KINDS_OF_ACTIVATIONS = {"softmax": CATEGORICAL, "sigmoid": BERNOULLI}


@keras.saving.register_keras_serializable(package="keras_attention")
class Logits(Objective):
    """Knowledge distillation: the distance of the models' outputs.

    Each output is compared by its kind, which the loss tells that the student
    is compiled with:

    - exclusive classes: T² KL(teacher || student) of the softened
      probabilities, as Hinton et al. Outputs that are probabilities are
      recognized, and their logarithms are used as logits.
    - independent labels (`BinaryCrossentropy`): T² times the KL divergence of
      softened Bernoulli distributions, the mean over labels.
    - regression (`MeanSquaredError` and its like): the squared difference.

    Outputs are paired by name; by position only if no name of the student's
    outputs is among the teacher's. Loss weights given to `compile` count, and
    so do masks, sample weights, and the `axis` and `reduction` of the loss. Of
    several outputs, one without a loss is refused unless `kind` or a softmax
    tells what it is. Examples whose label is the loss's
    `ignore_class` have no label, and the teacher's outputs all the same. The
    loss of the labels is multiplied by `1 - weight`.

    Args:
        weight: Factor of the loss, between 0 and 1: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to
            0.9.
        temperature: T, by which logits are divided. Defaults to 4.
        layers: What is compared instead of the outputs: the name of a layer
            of both models, a `(student, teacher)` pair of names, or a list of
            either, also of names of outputs. Defaults to `None`, all
            outputs.
        kind: `"categorical"`, `"bernoulli"` or `"regression"`, or a dict of
            these by the name of the student's output, where the compiled loss
            does not tell. Defaults to `None`.
        resize_outputs: Whether the teacher's outputs of another resolution
            are resized to the student's, for outputs of shape
            `(batch, height, width, classes)`. Defaults to `False`, which
            refuses them.
        name: Name of the objective. Defaults to `"distillation"`.

    Raises:
        ValueError: If an output has no partner, no kind, or another shape
            than its partner.

    Source: Hinton et al., arXiv:1503.02531.

    Example:

    >>> from keras_attention.distillation import Logits
    >>> Logits(0.9, temperature=4).weight
    0.9
    """

    replaces_labels = True
    # Whether positions whose label the loss ignores are left out.
    needs_labels = False

    def __init__(
        self,
        weight: Any = 0.9,
        temperature: float = 4.0,
        layers: str | Sequence[Any] | None = None,
        kind: str | Mapping[str, str] | None = None,
        resize_outputs: bool = False,
        name: str = "distillation",
    ):
        super().__init__(weight, name)
        if self.replaces_labels:
            check_weight("weight", weight, 1)
        self.temperature = check_number(
            "temperature", temperature, 0, exclusive_minimum=True
        )
        self.layers = check_layers(layers)
        kinds = kind.values() if isinstance(kind, Mapping) else [kind]
        for each in kinds:
            check_choice("kind", each, (None, *KINDS))
        self.kind = kind
        self.resize_outputs = check_boolean("resize_outputs", resize_outputs)
        self._losses: Mapping[str, Any] = {}

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        self._student = OutputReader(student)
        self._teacher = None if teacher is None else OutputReader(teacher)
        self.output_pairs = None
        if self.layers is not None:
            self.output_pairs = list(self.layers)
            self._student.check([mine for mine, _ in self.layers])
            if teacher is not None:
                self._teacher.check([theirs for _, theirs in self.layers])
        elif teacher is not None:
            self.output_pairs = pair_outputs(
                self._student.names, self._teacher.names
            )
        else:
            self.output_pairs = [(name, name) for name in self._student.names]
        self._student.find_activations(mine for mine, _ in self.output_pairs)
        if teacher is not None:
            self._teacher.find_activations(
                theirs for _, theirs in self.output_pairs
            )
            for mine, theirs in self.output_pairs:
                self._check_shapes(
                    mine,
                    self._student.shapes.get(mine),
                    theirs,
                    self._teacher.shapes.get(theirs),
                )

    def set_losses(
        self, student: keras.Model, losses: Mapping[str, OutputLoss]
    ):
        self._losses = losses
        for mine, _ in self.output_pairs:
            self._kind(mine)

    def student_names(self):
        return self._student.layers_of(mine for mine, _ in self.output_pairs)

    def teacher_names(self):
        return self._teacher.layers_of(
            theirs for _, theirs in self.output_pairs
        )

    def read_student(self, reading: Reading):
        return self._student.read(reading, [a for a, _ in self.output_pairs])

    def read_teacher(self, reading: Reading):
        """Returns the teacher's outputs under the names of the student's."""
        found = self._teacher.read(reading, [b for _, b in self.output_pairs])
        return {
            f"{prefix} {mine}": found[f"{prefix} {theirs}"]
            for mine, theirs in self.output_pairs
            for prefix in ("output", "mask")
            if f"{prefix} {theirs}" in found
        }

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        total = 0.0
        for mine, theirs in self.output_pairs:
            total = total + self._part(mine, theirs, student, teacher, batch)
        return {self.loss_name: total}

    def part_names(self):
        return []

    def distance(
        self, kind: str, student: Any, teacher: Any, labels: Any
    ) -> Any:
        """Computes the distance of two outputs, `(..., C)` to `(...)`.

        Args:
            kind: `"categorical"`, `"bernoulli"` or `"regression"`.
            student: Logits, or values of a regression, of the student.
            teacher: The same of the teacher.
            labels: The labels of the output, or `None`.
        """
        if kind == REGRESSION:
            return squared_distance(student, teacher)
        function = {
            CATEGORICAL: distillation_distance,
            BERNOULLI: bernoulli_distance,
        }[kind]
        return function(student, teacher, self.temperature)

    def advice(self):
        return f"Lower alpha or the temperature. Received: {self.weight}"

    def get_config(self):
        layers = self.layers
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "layers": None if layers is None else [list(e) for e in layers],
            "kind": self.kind if self.kind is None else _copied(self.kind),
            "resize_outputs": self.resize_outputs,
        }

    def _part(self, mine, theirs, student, teacher, batch):
        kind = self._kind(mine)
        found = teacher_output(teacher, mine, theirs)
        if found is None:
            found = target(teacher, f"output {mine}")
        pair = [student[f"output {mine}"], found]
        mask = combined_mask(
            student.get(f"mask {mine}"), teacher.get(f"mask {mine}")
        )
        loss = self._loss_of(mine)
        pair = [_classes_last(x, loss.class_axis) for x in pair]
        output = self._output_of(mine)
        labels = None if output is None else batch.labels.get(output)
        ignored = loss.ignore_class
        if self.needs_labels and ignored is not None and labels is not None:
            counted = ops.not_equal(labels_like(labels, pair[0]), ignored)
            mask = combined_mask(mask, counted)
        if mask is not None:
            kept = ops.expand_dims(ops.cast(mask, "bool"), -1)
            # Probabilities remain probabilities.
            even = 1 / pair[0].shape[-1] if kind == CATEGORICAL else 0.5
            pair = [ops.where(kept, x, ops.full_like(x, even)) for x in pair]
        activations = (
            self._student.activation(mine),
            None if self._teacher is None else self._teacher.activation(theirs),
        )
        logits = [
            as_logits(kind, value, activation)
            for value, activation in zip(pair, activations, strict=True)
        ]
        # Resized as probabilities, or values: not as logarithms.
        self._check_shapes(mine, logits[0].shape, theirs, logits[1].shape)
        logits[1] = self._resized(kind, logits[1], logits[0])
        if logits[0].shape != logits[1].shape or None in logits[0].shape:
            logits[1] = _of_one_size(logits[1], logits[0])
        distance = self.distance(kind, *logits, labels)
        weights = None if output is None else batch.weights.of_output(output)
        if output is None or (
            weights is not None and len(weights.shape) > len(distance.shape)
        ):
            weights = batch.weights.of_examples()
        return loss.weight * weighted_mean(
            distance, weights, mask, loss.reduction
        )

    def _output_of(self, name):
        """The output whose labels and weights hold for a layer, or `None`."""
        names = self._student.names
        if name in names:
            return name
        return names[0] if len(names) == 1 else None

    def _loss_of(self, name):
        return self._losses.get(self._output_of(name), OutputLoss(None))

    def _kind(self, name):
        """What an output is, or an error that says how to tell."""
        kind = self.kind
        if isinstance(kind, Mapping):
            kind = kind.get(name)
        output_loss = self._loss_of(name)
        if kind is None:
            kind = output_loss.kind
        if kind is None:
            activation = self._student.activation(name)
            kind = KINDS_OF_ACTIVATIONS.get(activation)
        if kind is None and output_loss.loss is None:
            # Without a loss, one output has logits; so have layers by name.
            is_output = name in self._student.names
            if len(self.output_pairs) == 1 or not is_output:
                kind = CATEGORICAL
        if kind is None:
            raise ValueError(
                "Distillation compares classes, independent labels or a "
                f"regression, and the loss of output '{name}' does not tell "
                f"which it is. Received: loss={output_loss.loss!r}. Give "
                'losses=[Logits(kind="categorical")], "bernoulli" or '
                '"regression", name the outputs to compare by `logits=`, or '
                "set alpha=0."
            )
        shape = self._student.shapes.get(name)
        if (
            kind == CATEGORICAL
            and shape is not None
            and (len(shape) < 2 or shape[output_loss.class_axis] == 1)
        ):
            raise ValueError(
                "Distillation compares probabilities of two or more classes, "
                f"as a softmax gives them. Received: output '{name}' of shape "
                f"{tuple(shape)}. Compile the model with a binary "
                "crossentropy, name layers with logits by `logits=`, or set "
                "alpha=0."
            )
        return kind

    def _check_shapes(self, mine, student, theirs, teacher):
        if student is None or teacher is None:
            return
        student, teacher = tuple(student), tuple(teacher)
        same_rank = len(student) == len(teacher)
        differing = [
            axis
            for axis, sizes in enumerate(zip(student, teacher, strict=False))
            if axis > 0 and None not in sizes and sizes[0] != sizes[1]
        ]
        resolution = same_rank and len(student) == 4 and 3 not in differing
        if same_rank and (
            not differing or (self.resize_outputs and resolution)
        ):
            return
        if resolution:
            advice = "Set resize_outputs=True to have the teacher's resized"
        else:
            advice = (
                "Name other layers by `logits=`, add a layer to the teacher "
                "that gives the student's classes, or set alpha=0"
            )
        raise ValueError(
            "Distillation compares outputs of one shape, with the same "
            f"classes. Received: '{mine}' of the student with {student[-1]} "
            f"classes and shape {student}, and '{theirs}' of the teacher with "
            f"{teacher[-1]} of the teacher's own and shape {teacher}. {advice}."
        )

    def _resized(self, kind, teacher, student):
        if not self.resize_outputs or len(student.shape) != 4:
            return teacher
        size = tuple(student.shape[1:3])
        if size == tuple(teacher.shape[1:3]) and None not in size:
            return teacher
        if None in size:
            size = tuple(ops.shape(student)[1:3])

        def resize(x):
            return ops.image.resize(
                x, size, antialias=True, data_format="channels_last"
            )

        if kind == REGRESSION:
            return resize(teacher)
        if kind == BERNOULLI:
            return logit(resize(ops.sigmoid(teacher)))
        return ops.log(
            ops.maximum(resize(ops.softmax(teacher, axis=-1)), SMALLEST)
        )


def _of_one_size(teacher, student):
    """The teacher's output; an error where sizes differ only when run."""
    # Neither operation broadcasts, as a distance would, a size of 1; and the
    # second fails for the sizes of an axis where their product agrees.
    same = ops.reshape(teacher, ops.shape(student))
    return same if len(student.shape) < 4 else ops.maximum(same, teacher)


def _classes_last(x, axis):
    """An output with its classes, or its one value, on the last axis."""
    if len(x.shape) == 1:
        return ops.expand_dims(x, -1)
    return x if axis in (-1, len(x.shape) - 1) else ops.moveaxis(x, axis, -1)


def _copied(kind):
    return kind if isinstance(kind, str) else dict(kind)
