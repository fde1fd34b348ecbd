from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import relation_distance
from keras_attention.distillation.losses import relation_scores
from keras_attention.distillation.losses import weighted_mean
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
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import pair_mask
from keras_attention.distillation.objectives.objective import target
from keras_attention.distillation.pairs import Pair
from keras_attention.distillation.pairs import Pairs
from keras_attention.inspection import find_layer
from keras_attention.inspection import split_name
from keras_attention.inspection import walk_layers
from keras_attention.validation import check_positive_integer

KINDS = ("query", "key", "value")


@keras.saving.register_keras_serializable(package="keras_attention")
class Relations(Objective):
    """The distance of self-attention relations, as MiniLM compares them.

    The queries of a layer, split into `num_heads` relation heads of width d,
    give R = softmax(Q Qᵀ / √d), its keys and values likewise. The loss is the
    mean over heads, tokens and examples of KL(R_teacher || R_student), summed
    over the relations. The numbers of heads and the widths of the two models
    need not agree. Masked tokens take no part.

    Args:
        weight: Factor of the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1.
        relations: Which are compared, of `"query"`, `"key"` and `"value"`.
            Defaults to all three, as MiniLMv2; `("value",)` is the relation
            of MiniLM.
        num_heads: Number of relation heads. Must divide the total width of
            the heads of both layers. Defaults to the student's number of
            heads.
        pairs: `"last"`, the last attention layer of both; `"all"`, all
            attention layers one by one; or a list of names such as
            `"block1/attention"`, or of `(student, teacher)` names. Defaults
            to `"last"`.
        name: Name of the objective. Defaults to `"relations"`.

    Source: Wang et al., MiniLMv2, arXiv:2012.15828, equations 4 to 6.

    Example:

    >>> from keras_attention.distillation import Relations
    >>> minilm_v2 = Relations(num_heads=12)
    """

    def __init__(
        self,
        weight: Any = 1.0,
        relations: Sequence[str] = KINDS,
        num_heads: int | None = None,
        pairs: str | Sequence[Any] = "last",
        name: str = "relations",
    ):
        super().__init__(weight, name)
        if (
            isinstance(relations, str)
            or not relations
            or not set(relations) <= set(KINDS)
        ):
            raise ValueError(
                "`relations` must be some of 'query', 'key' and 'value'. "
                f"Received: relations={relations!r}"
            )
        self.relations = tuple(dict.fromkeys(relations))
        if num_heads is not None:
            check_positive_integer("num_heads", num_heads)
        self.num_heads = num_heads
        self._pairs_asked_for = check_layer_pairs(pairs)

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        layers = choose_attention_pairs(self._pairs_asked_for, student, teacher)
        self.pairs = Pairs(
            [
                Pair(
                    split_name(pair.student)[0],
                    split_name(pair.teacher)[0],
                    pair.weight,
                )
                for pair in layers
            ]
        )
        self._of_student = _Projections(
            student.model, [pair.student for pair in self.pairs], self.relations
        )
        if teacher is not None:
            self._of_teacher = _Projections(
                teacher.model,
                [pair.teacher for pair in self.pairs],
                self.relations,
            )

    def student_names(self):
        return self._of_student.recorded

    def teacher_names(self):
        return self._of_teacher.recorded

    def read_student(self, reading: Reading):
        return self._of_student.read(reading)

    def read_teacher(self, reading: Reading):
        return self._of_teacher.read(reading)

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        found = {}
        for pair, part in zip(self.pairs, self.part_names(), strict=True):
            total = 0.0
            for kind in self.relations:
                each = Pair(f"{pair.student}:{kind}", f"{pair.teacher}:{kind}")
                mine = student[each.student]
                theirs = target(teacher, each.teacher)
                mask = pair_mask(each, student, teacher)
                heads = self._relation_heads(pair, mine, theirs)
                distance = relation_distance(
                    relation_scores(mine, heads, mask),
                    relation_scores(theirs, heads, mask),
                )
                weights = batch.weights.of_positions(tuple(distance.shape[1:]))
                total = total + weighted_mean(distance, weights, mask)
            found[part] = pair.weight * total
        return found

    def get_config(self):
        return {
            **super().get_config(),
            "relations": list(self.relations),
            "num_heads": self.num_heads,
            "pairs": serialized_pairs(self.pairs, self._pairs_asked_for),
        }

    def _relation_heads(self, pair, student, teacher):
        heads = self.num_heads or student.shape[2]
        for layer, value in ((pair.student, student), (pair.teacher, teacher)):
            width = value.shape[2] * value.shape[3]
            if width % heads:
                raise ValueError(
                    "`num_heads` of Relations must divide the total width of "
                    f"the heads of both layers. Received: num_heads={heads} "
                    f"for layer '{layer}' of {value.shape[2]} heads of width "
                    f"{value.shape[3]}. Set `num_heads`."
                )
        return heads


class _Projections:
    """Reads the queries, keys and values of attention layers of a model.

    Args:
        model: The model.
        layers: Names of the attention layers.
        relations: Which are read, of `"query"`, `"key"` and `"value"`.
    """

    def __init__(self, model, layers, relations):
        self.names = {
            (layer, kind): _projection_name(model, layer, kind)
            for layer in layers
            for kind in relations
        }
        masks = [f"{layer}:masks" for layer in layers]
        self.recorded = [*masks, *self.names.values()]

    def read(self, reading):
        """Returns them as `"layer:kind"`, with masks."""
        found = {}
        for (layer, kind), source in self.names.items():
            name = f"{layer}:{kind}"
            found[name] = reading.values[source]
            queries, keys = reading.attention_masks(layer)
            mask = queries if kind == "query" else keys
            if mask is not None:
                found[f"{name} mask"] = ops.cast(mask, "float32")
        return found


def _projection_name(model, layer, kind):
    """The name of what an attention layer projects its input to."""
    attention = find_layer(model, layer)
    # They project by layers of these names.
    if any(path == kind for path, _ in walk_layers(attention)):
        return f"{layer}/{kind}"
    raise ValueError(
        "Relations compare the queries, keys and values of attention layers "
        "of this package and of Keras. Received: "
        f"'{layer}', a {type(attention).__name__} without a layer named "
        f"'{kind}'. Name another layer by `pairs=`."
    )
