from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import SCORE_DISTANCES
from keras_attention.distillation.losses import scores_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import pair_mask
from keras_attention.distillation.objectives.objective import read_with_masks
from keras_attention.distillation.objectives.objective import target
from keras_attention.distillation.pairs import choose_pairs
from keras_attention.distillation.pairs import pair_names
from keras_attention.inspection import split_name
from keras_attention.validation import check_choice


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionScores(Objective):
    """The distance of the attention scores of Transformers.

    For each pair of attention layers, the mean over heads, queries and
    examples of the distance of the two distributions over keys. Where the
    numbers of heads differ, the means over heads are compared. Masked queries
    and keys take no part.

    Args:
        weight: Factor of the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1.
        pairs: `"all"`, all attention layers one by one, where the teacher may
            have a multiple of the student's number; `"last"`, the last
            attention layer of both, as MiniLM does; or a list of names such
            as `"block1/attention"`, or of `(student, teacher)` names.
            Defaults to `"all"`.
        distance: `"squared"`, as TinyBERT, or `"kl"`, KL(teacher || student),
            as MiniLM. Defaults to `"squared"`.
        name: Name of the objective. Defaults to `"scores"`.

    Source: Jiao et al., TinyBERT, arXiv:1909.10351, equation 7; Wang et al.,
    MiniLM, arXiv:2002.10957, equation 5.

    Example:

    >>> from keras_attention.distillation import AttentionScores
    >>> minilm = AttentionScores(distance="kl", pairs="last")
    """

    def __init__(
        self,
        weight: Any = 1.0,
        pairs: str | Sequence[Any] = "all",
        distance: str = "squared",
        name: str = "scores",
    ):
        super().__init__(weight, name)
        self.distance = check_choice("distance", distance, SCORE_DISTANCES)
        self._pairs_asked_for = check_layer_pairs(pairs)

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        self.pairs = choose_attention_pairs(
            self._pairs_asked_for, student, teacher
        )

    def read_student(self, reading: Reading):
        return read_with_masks(reading, self.student_names())

    def read_teacher(self, reading: Reading):
        return read_with_masks(reading, self.teacher_names())

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        found = {}
        for pair, part in zip(self.pairs, self.part_names(), strict=True):
            mine = student[pair.student]
            theirs = target(teacher, pair.teacher)
            if mine.shape[1] != theirs.shape[1]:
                mine, theirs = (
                    ops.mean(scores, axis=1, keepdims=True)
                    for scores in (mine, theirs)
                )
            _check_equal_lengths(pair, mine, theirs)
            mask = pair_mask(pair, student, teacher)
            keys = pair_mask(pair, student, teacher, "key mask")
            distance = scores_distance(mine, theirs, self.distance, mask, keys)
            weights = batch.weights.of_positions(tuple(distance.shape[1:]))
            found[part] = pair.weight * weighted_mean(distance, weights, mask)
        return found

    def get_config(self):
        return {
            **super().get_config(),
            "pairs": serialized_pairs(self.pairs, self._pairs_asked_for),
            "distance": self.distance,
        }


def check_layer_pairs(pairs: Any) -> Any:
    """Checks `pairs` of attention layers: `"all"`, `"last"` or a list."""
    if isinstance(pairs, str):
        return check_choice("pairs", pairs, ("all", "last"))
    pair_names(pairs)
    return pairs


def choose_attention_pairs(pairs: Any, student: Any, teacher: Any) -> Any:
    """Returns the pairs of score outputs of attention layers."""
    teacher_model = None if teacher is None else teacher.model
    if isinstance(pairs, str):
        chosen = choose_pairs(student.model, teacher_model, "scores")
        return chosen if pairs == "all" else type(chosen)(chosen[-1:])
    named = [
        tuple(_as_scores(name) for name in entry[:2])
        for entry in pair_names(pairs)
    ]
    weights = [entry[2] for entry in pair_names(pairs)]
    return choose_pairs(student.model, teacher_model, named, weights)


def serialized_pairs(found: Any, asked_for: Any) -> Any:
    """Returns pairs as a configuration has them."""
    if found:
        return [[pair.student, pair.teacher] for pair in found]
    if isinstance(asked_for, str | None):
        return asked_for
    return [list(entry[:2]) for entry in pair_names(asked_for)]


def _as_scores(name):
    path, kind = split_name(name)
    return name if kind == "scores" else f"{path}:scores"


def _check_equal_lengths(pair, student, teacher):
    for mine, theirs in zip(student.shape[2:], teacher.shape[2:], strict=True):
        if None not in (mine, theirs) and mine != theirs:
            raise ValueError(
                "Attention scores are compared query by query and key by "
                "key, so both layers must have as many. Received: "
                f"'{pair.student}' of shape {tuple(student.shape)} and "
                f"'{pair.teacher}' of shape {tuple(teacher.shape)}. Use "
                "AttentionMaps, which averages the larger one down."
            )
