"""The parts of the loss that come from the teacher."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_attention.distillation.losses import attention_distance
from keras_attention.distillation.losses import distillation_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.distillation.pairs import Pairs
from keras_attention.distillation.reader import Reader
from keras_attention.ops.attention_maps import resize_maps
from keras_attention.ops.attention_maps import unit_maps


def maps_distance(student: Any, teacher: Any, reduction: str = "mean") -> Any:
    """The distance of maps as they come: `(B, M, ...)` twice to `(B,)`.

    Where there are other numbers of maps (heads), the mean map is compared;
    on each axis the map of more positions is averaged down to the other's.
    """
    if student.shape[1] != teacher.shape[1]:
        student = ops.mean(student, axis=1, keepdims=True)
        teacher = ops.mean(teacher, axis=1, keepdims=True)
    if student.shape[2:] != teacher.shape[2:]:
        pairs = zip(
            zip(student.shape[2:], teacher.shape[2:], strict=True),
            zip(ops.shape(student)[2:], ops.shape(teacher)[2:], strict=True),
            strict=True,
        )
        size = [
            ops.minimum(*dynamic) if None in static else min(static)
            for static, dynamic in pairs
        ]
        student, teacher = (
            resize_maps(student, size),
            resize_maps(teacher, size),
        )
    return attention_distance(unit_maps(student), unit_maps(teacher), reduction)


def attention_parts(
    pairs: Pairs,
    reader: Reader,
    maps: Mapping[str, Any],
    targets: Mapping[str, Any],
    reduction: str = "mean",
    weights: Any = None,
) -> dict[str, Any]:
    """The mean distance of each pair's maps, by the pair's part name.

    Args:
        pairs: what is compared.
        reader: knows the names of maps.
        maps: of the student.
        targets: of the teacher.
        reduction: see `attention_distance`.
        weights: of the examples.

    Returns:
        A part for each pair, and their sum by the pairs' weights,
        `"attention_loss"`.
    """
    parts, total = {}, 0.0
    for pair, name in zip(pairs, pairs.part_names, strict=True):
        distance = maps_distance(
            maps[reader.map_name(pair.student)],
            target(targets, reader.map_name(pair.teacher)),
            reduction,
        )
        parts[name] = weighted_mean(distance, weights)
        total = total + pair.weight * parts[name]
    return {**parts, "attention_loss": total}


def distillation_part(
    logits: Mapping[str, Any],
    targets: Mapping[str, Any],
    temperature: float,
    weights: Any = None,
    masks: Mapping[str, Any] | None = None,
) -> Any:
    """The sum over outputs of the mean T² KL(teacher || student).

    Raises:
        ValueError: if an output of the teacher is missing or has other
            classes.
    """
    total = 0.0
    for name, student in logits.items():
        teacher = target(targets, name)
        if student.shape[-1] != teacher.shape[-1]:
            raise ValueError(
                "Distillation compares outputs of the same classes. Received: "
                f"'{name}' with {student.shape[-1]} classes of the student "
                f"and {teacher.shape[-1]} of the teacher. Set alpha=0, or "
                "name other layers by `logits=`."
            )
        distance = distillation_distance(student, teacher, temperature)
        mask = (masks or {}).get(name)
        total = total + weighted_mean(distance, weights, mask)
    return total


def target(targets: Mapping[str, Any], name: str) -> Any:
    """Return what was read out of the teacher under a name.

    Raises:
        ValueError: if it was not.
    """
    if name not in targets:
        raise ValueError(
            "The teacher was not asked for what the student learns from it. "
            f"Received: '{name}' is not among {sorted(targets)}. Precompute "
            "the teacher with the pairs, map function, power and logits of "
            "this model."
        )
    return targets[name]
