"""Which layer of the student learns from which layer of the teacher."""

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.inspection import channel_axis
from keras_attention.inspection import layer_outputs
from keras_attention.inspection import residual_blocks
from keras_attention.inspection import split_name
from keras_attention.inspection import stages
from keras_attention.inspection import walk_layers
from keras_attention.ops.attention_maps import token_grid
from keras_attention.validation import check_number
from keras_attention.validation import nearest

CHOICES = ("blocks", "groups", "scores")


@dataclass(frozen=True)
class Pair:
    """An intermediate output of the student and one of the teacher.

    Args:
        student: Name of the student's intermediate output.
        teacher: Name of the teacher's.
        weight: Factor of the pair's part of the loss. Defaults to 1.
        student_size: Positions of the student's map. Defaults to `None`, not
            known.
        teacher_size: Positions of the teacher's map.
        student_channels: Number of channels of the student's output.
        teacher_channels: Number of channels of the teacher's output.
    """

    student: str
    teacher: str
    weight: float = 1.0
    student_size: tuple[int, ...] | None = None
    teacher_size: tuple[int, ...] | None = None
    student_channels: int | None = None
    teacher_channels: int | None = None


class Pairs(tuple[Pair, ...]):
    """The pairs of a student and its teacher; printed, they are a table.

    Args:
        pairs: The `Pair`s.

    Attributes:
        part_names: List of the name of each pair: that of its layer in the
            student.
    """

    part_names: list[str]

    def __new__(cls, pairs: Iterable[Pair]):
        self = super().__new__(cls, pairs)
        students = [pair.student for pair in self]
        self.part_names = [
            pair.student
            if students.count(pair.student) == 1
            else f"{pair.student}<{pair.teacher}"
            for pair in self
        ]
        return self

    def __repr__(self) -> str:
        rows = [("student", "map", "teacher", "map", "weight")]
        rows += [
            (
                pair.student,
                _size(pair.student_size),
                pair.teacher,
                _size(pair.teacher_size),
                f"{pair.weight:g}",
            )
            for pair in self
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width)
                for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        )


def choose_pairs(
    student: keras.Model,
    teacher: keras.Model | None,
    pairs: Any = None,
    weights: Sequence[float] | None = None,
    allow_single_position: bool = False,
) -> Pairs:
    """Choose the pairs of two models.

    Args:
        student: a built model.
        teacher: a built model, or `None` for one that is not at hand: `pairs`
            must then be a list.
        pairs: `"blocks"`: the outputs of all residual additions of images,
            one by one, of networks of the same depth. `"groups"`: the end of
            each resolution, of networks of any depth. `"scores"`: the scores
            of all attention layers, one by one; of a teacher with a multiple
            of the student's layers, the last of each group. `None`: blocks if
            that fits, else groups. Or a list of names, of
            `(student, teacher)` names, or of `Pair`s.
        weights: a factor for each pair; `None` for the pairs' own, which are
            1 unless a `Pair` says otherwise.
        allow_single_position: whether layers without positions may be paired.

    Raises:
        TypeError, ValueError: If `pairs` is nothing of this kind, a layer
            does not exist, or no pair is possible.
    """
    if pairs is None or isinstance(pairs, str):
        if teacher is None:
            raise ValueError(
                "Without a teacher, `pairs` must be a list of pairs: that of "
                "the `pairs` of the model or of the data that the teacher was "
                f"run for. Received: pairs={pairs!r}"
            )
        names = _automatic(student, teacher, pairs)
    else:
        names = pair_names(pairs)
        if not names:
            raise ValueError(
                "`pairs` must have at least one entry; beta=0 is without "
                "attention transfer. Received: an empty list"
            )
    if weights is None:
        weights = [weight for _, _, weight in names]
    if not isinstance(weights, list | tuple) or len(weights) != len(names):
        raise ValueError(
            "`pair_weights` must be a list with one number for each of the "
            f"{len(names)} pairs. Received: pair_weights={weights!r}"
        )
    weights = [check_number("pair_weights", each, 0) for each in weights]
    mine = _described(student, [name for name, _, _ in names], teacher)
    theirs = {}
    if teacher is not None:
        theirs = _described(teacher, [name for _, name, _ in names], student)
    found = []
    for (student_name, teacher_name, _), weight in zip(
        names, weights, strict=True
    ):
        size, channels = mine[student_name]
        teacher_size, teacher_channels = theirs.get(teacher_name, (None, None))
        pair = Pair(
            student_name,
            teacher_name,
            weight,
            size,
            teacher_size,
            channels,
            teacher_channels,
        )
        if not allow_single_position:
            _check_comparable(pair)
        found.append(pair)
    return Pairs(found)


def pair_names(pairs: Sequence[Any]) -> list[tuple[str, str, float]]:
    """Return `(student, teacher, weight)` of each entry of a list of pairs.

    Raises:
        TypeError: If it is not such a list.
    """
    if not isinstance(pairs, list | tuple | Pairs):
        raise TypeError(
            "`pairs` must be None, one of "
            f"{', '.join(map(repr, CHOICES))}, or a list of layer names or of "
            f"(student, teacher) names. Received: pairs={pairs!r}"
        )
    return [_names(entry) for entry in pairs]


def _names(entry):
    if isinstance(entry, Pair):
        return entry.student, entry.teacher, entry.weight
    if isinstance(entry, str):
        return entry, entry, 1.0
    if (
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and all(isinstance(name, str) for name in entry)
    ):
        return *entry, 1.0
    raise TypeError(
        "An entry of `pairs` must be a layer's name, or a (student, teacher) "
        f"pair of names. Received: {entry!r}"
    )


def _automatic(student, teacher, pairs):
    if pairs not in (None, *CHOICES):
        raise ValueError(
            f"`pairs` must be None, one of {', '.join(map(repr, CHOICES))}, "
            f"or a list. Received: pairs={pairs!r}.{nearest(pairs, CHOICES)}"
        )
    if pairs == "scores":
        mine, theirs = map(_attention_layers, (student, teacher))
        if mine and len(theirs) % len(mine) == 0:
            # With half the layers, every second one of the teacher's.
            step = len(theirs) // len(mine)
            theirs = theirs[step - 1 :: step]
        return _one_by_one(mine, theirs, "layers with attention scores")
    if pairs == "groups":
        return _groups(student, teacher)
    blocks = [_blocks(student, teacher), _blocks(teacher, student)]
    resolutions = [[part for _, part in each] for each in blocks]
    if blocks[0] and resolutions[0] == resolutions[1]:
        taps = [[tap for tap, _ in each] for each in blocks]
        return _one_by_one(*taps, "residual blocks")
    if pairs is None:
        return _groups(student, teacher)
    raise ValueError(
        "pairs='blocks' compares the networks after every residual block, so "
        "both must have the same number of them at each resolution. Received: "
        f"a student with {len(blocks[0])} residual additions and a teacher "
        f"with {len(blocks[1])}. Take pairs='groups', or give a list."
    )


def _one_by_one(student, teacher, what):
    if not student or len(student) != len(teacher):
        raise ValueError(
            f"The {what} of both models are paired one by one, so there must "
            f"be as many. Received: {len(student)} in the student, "
            f"{len(teacher)} in the teacher. Give `pairs` as a list."
        )
    return [(*pair, 1.0) for pair in zip(student, teacher, strict=True)]


def _groups(student, teacher):
    ends = [_stages(student, teacher), _stages(teacher, student)]
    shared = [part for part in ends[0] if part in ends[1]]
    if not shared:
        raise ValueError(
            "The student and the teacher share no resolution at which their "
            "maps could be compared. Received: "
            + "; ".join(
                f"{who} with "
                + (", ".join(_size(s.size) for s in each.values()) or "none")
                for who, each in zip(("student", "teacher"), ends, strict=True)
            )
            + ". Give `pairs` as a list: maps of different sizes are resized."
        )
    return [(ends[0][part].name, ends[1][part].name, 1.0) for part in shared]


def _blocks(model, like):
    """`(name, resolution)` of the residual blocks of images."""
    return [
        (block.name, block.resolution)
        for block in residual_blocks(model, like)
        if _is_comparable(block)
    ]


def _stages(model, like):
    """The stages with maps, by their resolution and how often it was before.

    A decoder has the resolutions of its encoder once more.
    """
    found = {}
    for stage in stages(model, like):
        if _is_comparable(stage):
            number = sum(key[0] == stage.resolution for key in found)
            found[stage.resolution, number] = stage
    return found


def _is_comparable(end):
    # A single position always has the map 1, and what is called twice has no
    # single value.
    return set(end.size) != {1} and end.calls == 1


def _attention_layers(model):
    paths = [
        path
        for path, layer in walk_layers(model)
        if "return_attention_scores"
        in getattr(getattr(layer, "_call_signature", None), "parameters", ())
    ]
    order = [output.name for output in layer_outputs(model)]
    # A block that gives its own attention's scores has them once.
    paths = [
        path
        for path in paths
        if path in order
        and not any(other.startswith(f"{path}/") for other in paths)
    ]
    return [f"{path}:scores" for path in sorted(paths, key=order.index)]


def _described(model, names, like):
    """The sizes of the positions and the channels of intermediate outputs."""
    axis = channel_axis(model)
    found = {}
    for output in layer_outputs(model, list(dict.fromkeys(names)), like):
        channels = output.shape[axis if len(output.shape) > 3 else -1]
        found[output.name] = _size_of(output, axis), channels
    return found


def _check_comparable(pair):
    for name, size in (
        (pair.student, pair.student_size),
        (pair.teacher, pair.teacher_size),
    ):
        if size is not None and (not size or set(size) == {1}):
            raise ValueError(
                "An attention map has positions: the height and width of an "
                "image, the time of a sequence, or the queries and keys of "
                f"attention scores. Received: '{name}' with positions {size}. "
                "Name a layer before the pooling."
            )
    student, teacher = pair.student_size, pair.teacher_size
    kinds = {
        split_name(tap)[1] == "scores" for tap in (pair.student, pair.teacher)
    }
    if len(kinds) == 1 and (teacher is None or len(student) == len(teacher)):
        return
    if kinds == {False} and {len(student), len(teacher)} == {1, 2}:
        # Tokens of a vision transformer, and an image.
        tokens, image = sorted((student, teacher), key=len)
        token_grid(*tokens, *image)
        return
    raise ValueError(
        "The two maps of a pair must be of one kind and rank. Received: "
        f"'{pair.student}' of the student with a map of {_size(student)}, "
        f"'{pair.teacher}' of the teacher with one of {_size(teacher)}"
    )


def _positions(shape, axis):
    return tuple(shape[2:] if axis == 1 else shape[1:-1])


def _size_of(output, axis):
    """The positions of the map of one value."""
    if split_name(output.name)[1] == "scores":
        return tuple(output.shape[2:])
    return _positions(output.shape, axis if len(output.shape) > 3 else -1)


def _size(size):
    return "" if size is None else "×".join(map(str, size))
