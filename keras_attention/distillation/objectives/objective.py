import copy
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.sample_weights import SampleWeights
from keras_attention.distillation.pairs import Pair
from keras_attention.distillation.pairs import Pairs
from keras_attention.inspection import split_name
from keras_attention.validation import check_number


@dataclass(frozen=True)
class Batch:
    """What an objective may know about a batch besides the two models.

    Args:
        labels: Labels by the name of the student's output. Empty without
            labels.
        weights: The sample weights.
    """

    labels: Mapping[str, Any]
    weights: SampleWeights


class Objective:
    """One thing that the student is trained to have in common with a teacher.

    The base class of the loss objects of `AttentionTransferModel`. A subclass
    says which intermediate outputs it reads (`student_names`,
    `teacher_names`), what it keeps of them (`read_student`, `read_teacher`),
    and how that is compared (`parts`). What is kept of the teacher can be
    cached by `precompute_teacher`.

    Args:
        weight: Factor of the objective in the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule` of the
            optimizer's iterations. Defaults to 1.
        name: Name of the objective. Its part of the loss is reported as
            `"<name>_loss"`.
    """

    # Of the loss of the labels, what this objective's weight takes away.
    replaces_labels = False

    def __init__(self, weight: Any = 1.0, name: str = "objective"):
        self.weight = check_weight("weight", weight)
        if not isinstance(name, str) or not name:
            raise TypeError(
                "`name` must be a string that is not empty. "
                f"Received: name={name!r}"
            )
        self.name = name
        self.pairs = Pairs(())

    def bind(
        self, student: ModelReader, teacher: ModelReader | None
    ) -> "Objective":
        """Returns a copy for two models, whose layers it has found.

        Args:
            student: Reader of the student.
            teacher: Reader of the teacher. `None` if its outputs have been
                computed before.
        """
        bound = copy.copy(self)
        bound.find_layers(student, teacher)
        student.request(bound.student_names())
        if teacher is not None:
            teacher.request(bound.teacher_names())
        return bound

    def find_layers(
        self, student: ModelReader, teacher: ModelReader | None
    ) -> None:
        """Finds what is compared. Called on the copy that `bind` returns."""

    def set_losses(self, student: keras.Model, losses: Any) -> None:
        """Takes note of the losses that the student was compiled with.

        Args:
            student: The student.
            losses: `OutputLoss` by the name of the output.
        """

    def student_names(self) -> list[str]:
        """Returns the intermediate outputs that are read of the student."""
        return [pair.student for pair in self.pairs]

    def teacher_names(self) -> list[str]:
        """Returns the intermediate outputs that are read of the teacher."""
        return [pair.teacher for pair in self.pairs]

    def read_student(self, reading: Reading) -> dict[str, Any]:
        """Returns what is kept of the student, by name."""
        raise NotImplementedError

    def read_teacher(self, reading: Reading) -> dict[str, Any]:
        """Returns what is kept of the teacher, by name."""
        raise NotImplementedError

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ) -> dict[str, Any]:
        """Computes the parts of the loss, by name, without `weight`.

        Their sum is the objective's loss.
        """
        raise NotImplementedError

    def part_names(self) -> list[str]:
        """Returns the names of the parts, if they are reported one by one."""
        return [f"{self.name}/{part}" for part in self.pairs.part_names]

    @property
    def loss_name(self) -> str:
        """The name under which the objective's loss is reported."""
        return f"{self.name}_loss"

    def weight_at(self, iterations: Any) -> Any:
        """Returns the weight after a number of updates."""
        if isinstance(self.weight, float):
            return self.weight
        return keras.ops.cast(self.weight(iterations), loss_dtype())

    def advice(self) -> str:
        """Says what to set if the objective's part dwarfs the labels'."""
        return f"Lower `weight` of {type(self).__name__}."

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        weight = self.weight
        if not isinstance(weight, float):
            weight = keras.saving.serialize_keras_object(weight)
        return {"weight": weight, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        """Makes an objective of a configuration."""
        return cls(**config)


def loss_dtype() -> str:
    """Returns the dtype of losses: that of Keras, and at least float32."""
    floats = keras.config.floatx()
    return floats if floats == "float64" else "float32"


def check_weight(name: str, value: Any, maximum: float | None = None) -> Any:
    """Returns a weight: a number of at least 0, or a schedule as it is.

    A schedule is a `keras.optimizers.schedules.LearningRateSchedule`, or its
    serialized form.
    """
    if isinstance(value, dict):
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    return check_number(name, value, 0, maximum)


def read_with_masks(reading: Reading, names: Iterable[str]) -> dict[str, Any]:
    """Returns intermediate outputs by name, and their masks.

    The mask of `"name"` is under `"name mask"`, that of the keys of attention
    scores under `"name key mask"`, as floats that can be cached.
    """
    found = {}
    for name in dict.fromkeys(names):
        found[name] = reading.values[name]
        masks = {"mask": reading.mask(name)}
        if split_name(name)[1] == "scores":
            masks["key mask"] = reading.attention_masks(name)[1]
        for kind, mask in masks.items():
            if mask is not None:
                found[f"{name} {kind}"] = keras.ops.cast(mask, "float32")
    return found


def pair_mask(
    pair: Pair,
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    kind: str = "mask",
) -> Any:
    """Returns where the masks of both outputs of a pair allow a position.

    Args:
        pair: The pair.
        student: What was read of the student, with masks.
        teacher: What was read of the teacher.
        kind: `"mask"` or `"key mask"`. Defaults to `"mask"`.

    Returns:
        Boolean tensor, or `None` without masks.
    """
    mask = combined_mask(
        student.get(f"{pair.student} {kind}"),
        teacher.get(f"{pair.teacher} {kind}"),
    )
    return None if mask is None else keras.ops.cast(mask, "bool")


def target(targets: Mapping[str, Any], name: str) -> Any:
    """Returns what was read of the teacher under a name.

    Raises:
        ValueError: If it was not.
    """
    if name not in targets:
        raise ValueError(
            "The teacher's outputs in the data lack what the student is "
            f"trained with. Received: '{name}' is not among "
            f"{sorted(targets)}. Call `precompute_teacher` with the model "
            "that is trained, or with its pairs, map function, power and "
            "logits."
        )
    return targets[name]


def combined_mask(first: Any, second: Any) -> Any:
    """Returns where both masks allow a position; `None` allows all."""
    if first is None or second is None:
        return second if first is None else first
    return keras.ops.logical_and(
        keras.ops.cast(first, "bool"), keras.ops.cast(second, "bool")
    )
