from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.attention_scores import (
    check_layer_pairs,
)
from keras_attention.distillation.objectives.attention_scores import (
    choose_attention_pairs,
)
from keras_attention.distillation.objectives.attention_scores import (
    serialized_pairs,
)
from keras_attention.distillation.objectives.copied_scores import can_copy
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import target
from keras_attention.inspection import find_layer
from keras_attention.inspection import split_name


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionCopy(Objective):
    """Attention copy: the student uses the teacher's attention scores.

    In training, evaluation and prediction of the `AttentionTransferModel`,
    the attention layers of the student attend as those of the teacher, and
    learn what to do with it: their values and what follows. Their queries and
    keys are not trained, and it adds nothing to the loss. The student alone,
    `model.student`, attends by itself, so that it is of use only with the
    teacher; to have it attend so by itself, take `AttentionScores`.

    The student's own masks hold: a key that is masked for a query has the
    score zero, whatever the teacher's is, and the other scores stay the
    teacher's.

    Args:
        pairs: `"all"`, all attention layers one by one; `"last"`, the last of
            both; or a list of names, or of `(student, teacher)` names. The
            layers of a pair must have as many heads. Defaults to `"all"`.
        name: Name of the objective. Defaults to `"copy"`.

    Source: Li et al., On the Surprising Effectiveness of Attention Transfer
    for Vision Transformers, arXiv:2411.09702, section 2.

    Example:

    >>> from keras_attention.distillation import AttentionCopy
    >>> copy = AttentionCopy(pairs="last")
    """

    def __init__(self, pairs: str | Sequence[Any] = "all", name: str = "copy"):
        super().__init__(1.0, name)
        self._pairs_asked_for = check_layer_pairs(pairs)

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        if teacher is None:
            raise ValueError(
                "Attention copy needs the teacher in every step. Received: "
                "teacher=None"
            )
        self.pairs = choose_attention_pairs(
            self._pairs_asked_for, student, teacher
        )
        for pair in self.pairs:
            layer = find_layer(student.model, split_name(pair.student)[0])
            if not can_copy(layer):
                raise ValueError(
                    "Attention is copied into MultiHeadAttention layers of "
                    f"Keras and of this package. Received: '{pair.student}' "
                    f"of a {type(layer).__name__}. Name others by `pairs=`."
                )

    def student_names(self):
        return []

    def read_student(self, reading: Reading):
        return {}

    def read_teacher(self, reading: Reading):
        return {
            pair.teacher: reading.values[pair.teacher] for pair in self.pairs
        }

    def scores(self, targets: Any) -> dict[str, Any]:
        """Returns the teacher's scores by the name of the student's layer."""
        return {
            split_name(pair.student)[0]: target(targets, pair.teacher)
            for pair in self.pairs
        }

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        return {}

    def part_names(self):
        return []

    def get_config(self):
        return {
            "pairs": serialized_pairs(self.pairs, self._pairs_asked_for),
            "name": self.name,
        }
