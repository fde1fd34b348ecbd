import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import REDUCTIONS
from keras_attention.distillation.losses import SCALE_FREE_WEIGHT
from keras_attention.distillation.losses import attention_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import pair_mask
from keras_attention.distillation.objectives.objective import target
from keras_attention.distillation.pairs import choose_pairs
from keras_attention.distillation.pairs import pair_names
from keras_attention.inspection import split_name
from keras_attention.ops.attention_maps import MAP_FUNCTIONS
from keras_attention.ops.attention_maps import activation_maps
from keras_attention.ops.attention_maps import flat_maps
from keras_attention.ops.attention_maps import score_maps
from keras_attention.ops.attention_maps import smaller_maps
from keras_attention.ops.attention_maps import token_grids
from keras_attention.validation import check_choice
from keras_attention.validation import check_number

SCALE_FREE = "scale_free"


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionMaps(Objective):
    """Attention transfer: the distance of attention maps, summed over pairs.

    A map is the sum over channels of the squared activations, flattened and
    scaled to length 1 for each example: Q = F(A) / ||F(A)||.

    With `weight=None`, the default, the loss does not depend on the sizes of
    the images:

        Σ_j 15.625 · (P_min / P_j) · ||Q_S^j - Q_T^j||²

    where P_j is the number of positions of map j, and P_min the smallest of
    them. For maps of 32 x 32, 16 x 16 and 8 x 8, the networks of the paper on
    CIFAR, this is the loss of the authors' code: 1e3 times the mean over
    positions of the squared difference, since 1e3 / 64 = 15.625.

    A number as `weight` multiplies what `reduction` says: with `"mean"` a
    small number, at most 2 / P_j, hence the authors' 1e3; with `"sum"` a
    number between 0 and 2; with `"paper"` (equation 2) one between 0 and 1.

    Masked positions and positions of sample weight 0 take no part in a map.
    Where the two maps of a pair differ in size, the larger one is averaged
    down. The tokens of a vision transformer are compared with the map of a
    convolutional network as an image; class tokens are left out.

    Args:
        weight: Factor of the loss: `None` for the scale-free loss, a number,
            or a `keras.optimizers.schedules.LearningRateSchedule`. Defaults
            to `None`.
        pairs: Which layers are compared; see `AttentionTransferModel`.
            Defaults to `None`.
        power: p of the map function |A|^p, at least 1. Defaults to 2.
        map_function: `"sum"` or `"max"` over channels. Defaults to `"sum"`.
        reduction: `"mean"`, `"sum"`, `"paper"`, or `"scale_free"`, which
            makes `weight` a factor of the scale-free loss. Defaults to
            `"mean"`, or to `"scale_free"` if `weight` is `None`.
        pair_weights: A factor for each pair. Defaults to 1 for each.
        name: Name of the objective. Defaults to `"attention"`.

    Source: Zagoruyko and Komodakis, arXiv:1612.03928, equation 2, and the
    authors' code. The scale-free weight is ours.

    Example:

    >>> from keras_attention.distillation import AttentionMaps
    >>> AttentionMaps().reduction
    'scale_free'
    >>> AttentionMaps(1e3, pairs="groups").reduction
    'mean'
    """

    def __init__(
        self,
        weight: Any = None,
        pairs: str | Sequence[Any] | None = None,
        power: float = 2,
        map_function: str = "sum",
        reduction: str | None = None,
        pair_weights: Sequence[float] | None = None,
        name: str = "attention",
    ):
        check_choice("reduction", reduction, (None, *REDUCTIONS, SCALE_FREE))
        if weight is None and reduction not in (None, SCALE_FREE):
            raise ValueError(
                "The scale-free weight of attention maps has a reduction of "
                f"its own. Received: weight=None (`beta=None`) with "
                f"reduction={reduction!r}. Give a number, such as 1e3 for "
                "reduction='mean', or leave out `reduction`."
            )
        if reduction is None:
            reduction = SCALE_FREE if weight is None else "mean"
        super().__init__(1.0 if weight is None else weight, name)
        self.power = check_number("power", power, 1)
        self.map_function = check_choice(
            "map_function", map_function, MAP_FUNCTIONS
        )
        self.reduction = reduction
        self._pairs_asked_for = pairs
        self.pair_weights = pair_weights

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        self.pairs = choose_pairs(
            student.model,
            None if teacher is None else teacher.model,
            self._pairs_asked_for,
            self.pair_weights,
        )
        self._student = student
        self._teacher = teacher

    def read_student(self, reading: Reading):
        return self._read(reading, self._student, self.student_names())

    def read_teacher(self, reading: Reading):
        return self._read(reading, self._teacher, self.teacher_names())

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        distances, positions = [], []
        for pair in self.pairs:
            distance, count = self._distance(pair, student, teacher, batch)
            distances.append(distance)
            positions.append(count)
        factors = [pair.weight for pair in self.pairs]
        if self.reduction == SCALE_FREE:
            smallest = _smallest(positions)
            factors = [
                factor * SCALE_FREE_WEIGHT * (smallest / count)
                for factor, count in zip(factors, positions, strict=True)
            ]
        return {
            name: ops.cast(factor, distance.dtype) * distance
            for name, factor, distance in zip(
                self.part_names(), factors, distances, strict=True
            )
        }

    def advice(self):
        if self.reduction == SCALE_FREE:
            return (
                "Lower the weight of the attention maps: beta=0.1 with "
                "reduction='scale_free' is a tenth of the default."
            )
        return (
            "Leave out `beta`, whose default does not depend on the size of "
            f"the maps, or lower it. Received: beta={self.weight} with "
            f"reduction={self.reduction!r}"
        )

    def get_config(self):
        config = super().get_config()
        if not self.pairs:
            pairs = self._pairs_asked_for
            if not isinstance(pairs, str | None):
                pairs = [list(entry) for entry in _names(pairs)]
        else:
            pairs = [[pair.student, pair.teacher] for pair in self.pairs]
        weights = self.pair_weights
        if self.pairs:
            weights = [pair.weight for pair in self.pairs]
        return {
            **config,
            "pairs": pairs,
            "power": self.power,
            "map_function": self.map_function,
            "reduction": self.reduction,
            "pair_weights": weights,
        }

    def _read(self, reading, reader, names):
        found = {}
        for name in dict.fromkeys(names):
            value = reading.values[name]
            if split_name(name)[1] == "scores":
                maps = score_maps(value)
            else:
                axis = reader.channel_axis if len(value.shape) > 3 else -1
                maps = activation_maps(
                    value, self.map_function, self.power, axis
                )
            found[self._map_name(name)] = maps
            masks = {"mask": reading.mask(name)}
            if split_name(name)[1] == "scores":
                masks["key mask"] = reading.attention_masks(name)[1]
            for kind, mask in masks.items():
                if mask is not None:
                    found[f"{name} {kind}"] = ops.cast(mask, "float32")
        return found

    def _map_name(self, name):
        """Says how the map was made."""
        if split_name(name)[1] == "scores":
            return name
        return f"{name} {self.map_function}^{self.power:g}"

    def _distance(self, pair, student, teacher, batch):
        """The mean distance of a pair, and the number of its positions."""
        mine = student[self._map_name(pair.student)]
        theirs = target(teacher, self._map_name(pair.teacher))
        mask = pair_mask(pair, student, teacher)
        key_mask = pair_mask(pair, student, teacher, "key mask")
        if mine.shape[1] != theirs.shape[1]:
            mine, theirs = (
                ops.mean(maps, axis=1, keepdims=True) for maps in (mine, theirs)
            )
        mine, theirs = token_grids(mine, theirs)
        mine, theirs = _resized(mine, theirs, mask, pair)
        is_scores = split_name(pair.student)[1] == "scores"
        weights = batch.weights.of_positions(
            tuple(mine.shape[2:3] if is_scores else mine.shape[2:])
        )
        valid = _valid_positions(mask, key_mask, mine, is_scores)
        examples = weights
        if weights is not None and len(weights.shape) > 1:
            examples, weights = None, ops.cast(weights, mine.dtype)
            missing = len(mine.shape) - 1 - len(weights.shape)
            weights = ops.expand_dims(
                weights, (1, *(-1 - n for n in range(missing)))
            )
            weights = ops.broadcast_to(
                weights, (ops.shape(mine)[0], 1, *ops.shape(mine)[2:])
            )
            counted = weights != 0
            valid = (
                counted if valid is None else ops.logical_and(valid, counted)
            )
        else:
            weights = None
        count = _count(mine.shape[2:], ops.shape(mine)[2:])
        flat = [
            None if x is None else flat_maps(x)
            for x in (mine, theirs, valid, weights)
        ]
        mine, theirs, valid, weights = flat
        distance = attention_distance(
            mine,
            theirs,
            "sum" if self.reduction == SCALE_FREE else self.reduction,
            valid,
            weights,
        )
        present = None
        if mask is not None:
            present = ops.any(ops.reshape(mask, (ops.shape(mask)[0], -1)), 1)
        return weighted_mean(distance, examples, present), count


def _names(pairs):
    return [(student, teacher) for student, teacher, _ in pair_names(pairs)]


def _smallest(counts):
    if all(isinstance(count, int) for count in counts):
        return min(counts)
    smallest = counts[0]
    for count in counts[1:]:
        smallest = ops.minimum(smallest, count)
    return ops.cast(smallest, "float32")


def _count(static, dynamic):
    """The number of positions, an integer where it is known."""
    if None not in static:
        return math.prod(static)
    return ops.cast(ops.prod(ops.stack(list(dynamic))), "float32")


def _valid_positions(mask, key_mask, maps, is_scores):
    """The mask of a map's positions, `(B, 1, ...)`, or `None`."""
    if not is_scores:
        return None if mask is None else ops.expand_dims(mask, 1)
    valid = None
    if mask is not None:
        valid = ops.expand_dims(mask, (1, 3))  # [B, 1, T, 1]
    if key_mask is not None:
        keys = ops.expand_dims(key_mask, (1, 2))  # [B, 1, 1, S]
        valid = keys if valid is None else ops.logical_and(valid, keys)
    if valid is None:
        return None
    shape = (ops.shape(maps)[0], 1, *ops.shape(maps)[2:])
    return ops.broadcast_to(valid, shape)


def _resized(student, teacher, mask, pair):
    """Maps of one size: on each axis, the larger is averaged down."""
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    if mask is not None and None not in (
        *student.shape[2:],
        *teacher.shape[2:],
    ):
        raise ValueError(
            "Maps with masked positions are compared position by position, "
            "so both must have the same size. Received: "
            f"'{pair.student}' with a map of {tuple(student.shape[2:])} and "
            f"'{pair.teacher}' with one of {tuple(teacher.shape[2:])}. Choose "
            "layers of one length with `pairs=`."
        )
    return smaller_maps(student, teacher)
