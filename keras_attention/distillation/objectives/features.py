from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.model_reader import Reading
from keras_attention.distillation.objectives.objective import Batch
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import combined_mask
from keras_attention.distillation.objectives.objective import target
from keras_attention.distillation.pairs import choose_pairs
from keras_attention.ops.attention_maps import resize_maps
from keras_attention.ops.precision import widen
from keras_attention.validation import check_boolean


@keras.saving.register_keras_serializable(package="keras_attention")
class Features(Objective):
    """The squared distance of intermediate features.

    The student's features pass through a learned linear projection to the
    teacher's number of channels, as in FitNets. The projections belong to the
    `AttentionTransferModel`, are trained with the student, and are not part
    of it: `model.student` is saved without them. Where the sizes differ, the
    larger features are averaged down. Masked positions take no part.

    Args:
        weight: Factor of the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1.
        pairs: Which layers are compared; see `AttentionTransferModel`.
            Defaults to `None`.
        normalize: Whether the features of each position are scaled to length
            1 before they are compared. Defaults to `False`.
        channels: The teacher's number of channels in each pair. Needed only
            without a teacher, with data of `precompute_teacher`. Defaults to
            `None`.
        name: Name of the objective. Defaults to `"features"`.

    Source: Romero et al., FitNets, arXiv:1412.6550, equation 3, without its
    factor 1/2 and as a mean over channels and positions.

    Example:

    >>> from keras_attention.distillation import Features
    >>> hint = Features(0.5, pairs=[("stage2", "stage2")])
    """

    def __init__(
        self,
        weight: Any = 1.0,
        pairs: str | Sequence[Any] | None = None,
        normalize: bool = False,
        channels: Sequence[int] | None = None,
        name: str = "features",
    ):
        super().__init__(weight, name)
        self.normalize = check_boolean("normalize", normalize)
        self._pairs_asked_for = pairs
        self.channels = channels
        self.projections: dict[str, keras.layers.Layer] = {}

    def find_layers(self, student: ModelReader, teacher: ModelReader | None):
        self.pairs = choose_pairs(
            student.model,
            None if teacher is None else teacher.model,
            self._pairs_asked_for,
            allow_single_position=True,
        )
        self._student = student
        self._teacher = teacher
        self.projections = {}
        if teacher is not None:
            self.channels = [pair.teacher_channels for pair in self.pairs]
        if self.channels is None or len(self.channels) != len(self.pairs):
            raise ValueError(
                "Features are projected to the teacher's channels, one number "
                f"for each of the {len(self.pairs)} pairs. Received: "
                f"channels={self.channels} and teacher=None. Give "
                "AttentionTransferModel the teacher; with data of "
                "`precompute_teacher` it is not run."
            )
        for pair, channels in zip(self.pairs, self.channels, strict=True):
            # Of the features, which are widened, whatever the global policy.
            projection = keras.layers.Dense(
                channels,
                use_bias=False,
                dtype=keras.backend.result_type(
                    student.model.compute_dtype, "float32"
                ),
                name=f"{self.name}_projection",
            )
            projection.build((None, pair.student_channels))
            self.projections[_key(pair)] = projection

    def read_student(self, reading: Reading):
        return _read(reading, self._student, self.student_names())

    def read_teacher(self, reading: Reading):
        return _read(reading, self._teacher, self.teacher_names())

    def parts(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch: Batch,
    ):
        found = {}
        for pair, part in zip(self.pairs, self.part_names(), strict=True):
            mine = student[f"{pair.student} features"]
            theirs = target(teacher, f"{pair.teacher} features")
            mask = combined_mask(
                student.get(f"{pair.student} mask"),
                teacher.get(f"{pair.teacher} mask"),
            )
            if mask is not None:
                mask = ops.cast(mask, "bool")
                kept = ops.expand_dims(mask, -1)
                mine, theirs = (
                    ops.where(kept, x, ops.zeros_like(x))
                    for x in (mine, theirs)
                )
            mine = self.projections[_key(pair)](mine)
            theirs = ops.cast(theirs, mine.dtype)
            mine, theirs = _of_one_size(mine, theirs, mask, pair)
            if self.normalize:
                mine, theirs = map(_unit, (mine, theirs))
            distance = ops.mean(ops.square(mine - theirs), axis=-1)
            weights = batch.weights.of_positions(tuple(distance.shape[1:]))
            found[part] = pair.weight * weighted_mean(distance, weights, mask)
        return found

    def get_config(self):
        pairs = self._pairs_asked_for
        if self.pairs:
            pairs = [[pair.student, pair.teacher] for pair in self.pairs]
        return {
            **super().get_config(),
            "pairs": pairs,
            "normalize": self.normalize,
            "channels": self.channels,
        }


def _key(pair):
    return f"{pair.student}<{pair.teacher}"


def _read(reading, reader, names):
    """Features with the channels last, in float32."""
    found = {}
    for name in dict.fromkeys(names):
        value = widen(reading.values[name])
        if reader.channel_axis == 1 and len(value.shape) > 3:
            value = ops.moveaxis(value, 1, -1)
        found[f"{name} features"] = value
        mask = reading.mask(name)
        if mask is not None:
            found[f"{name} mask"] = ops.cast(mask, "float32")
    return found


def _of_one_size(student, teacher, mask, pair):
    sizes = tuple(student.shape[1:-1]), tuple(teacher.shape[1:-1])
    if sizes[0] == sizes[1]:
        return student, teacher
    if mask is not None or None in (*sizes[0], *sizes[1]):
        raise ValueError(
            "Features with masked positions or sizes that are not known are "
            "compared position by position, so both must have the same "
            f"sizes. Received: '{pair.student}' with {sizes[0]} and "
            f"'{pair.teacher}' with {sizes[1]}. Choose other layers with "
            "`pairs=`."
        )
    size = list(map(min, *sizes))
    return tuple(
        ops.moveaxis(resize_maps(ops.moveaxis(x, -1, 1), size), 1, -1)
        for x in (student, teacher)
    )


def _unit(x):
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-12))
