"""The axes of its inputs along which a layer attends: `attention_axes`."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.call_arguments import CallArguments
from keras_attention.ops.attention.axes import AttentionAxes
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.types import Shape


def to_axes(axes: Any) -> tuple[int, ...] | None:
    """Return the argument `attention_axes` as a tuple, or `None`.

    Raises:
        TypeError: For other things than an integer or integers.
    """
    if axes is None:
        return None
    is_sequence = isinstance(axes, list | tuple) and axes
    numbers = tuple(axes) if is_sequence else (axes,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(
                "`attention_axes` must be an integer or a tuple of integers. "
                f"Received: attention_axes={axes!r}"
            )
    return numbers


def find_axes(layer: Any, shape: Shape) -> AttentionAxes:
    """Return the axes along which queries of this shape attend.

    Args:
        layer: The layer, with `attention_axes`; `None` for all.
        shape: Shape of the query as it was given.

    Raises:
        ValueError: For a rank below 3, or `attention_axes` out of range.
    """
    rank = len(shape)
    if rank < 3:
        raise ValueError(
            f"{type(layer).__name__} expects tensors of shape (batch, length, "
            "width), or of more axes between batch and width. Received: "
            f"query of shape {tuple(shape)} for layer '{layer.name}'"
        )
    axes = layer.attention_axes
    axes = range(1, rank - 1) if axes is None else axes
    axes = tuple(n + rank if n < 0 else n for n in axes)
    if len(set(axes)) < len(axes) or not all(1 <= n <= rank - 2 for n in axes):
        raise ValueError(
            "`attention_axes` must be different axes between the batch's, "
            f"0, and the last, {rank - 1}. Received: attention_axes="
            f"{layer.attention_axes} for query of shape {tuple(shape)} in "
            f"layer '{layer.name}'"
        )
    return AttentionAxes(rank, axes)


def check_axes(
    layer: Any,
    axes: AttentionAxes,
    query_shape: Shape,
    value_shape: Shape,
    key_shape: Shape,
) -> None:
    """Check ranks and the axes that are not attended along.

    Args:
        layer: The layer, for errors.
        axes: What `find_axes` returned when the layer was built; of a layer
            that is not, for this query.
        query_shape: Shape of the query as it was given.
        value_shape: Shape of the value as it was given.
        key_shape: Shape of the key as it was given.

    Raises:
        ValueError: For shapes that do not fit.
    """
    if len(query_shape) != axes.rank:
        raise ValueError(
            f"Layer '{layer.name}' was built for tensors of rank "
            f"{axes.rank}. Received: query of shape {query_shape}"
        )
    for name, shape in (("value", value_shape), ("key", key_shape)):
        if len(shape) != axes.rank or any(
            None not in (query_shape[n], shape[n])
            and query_shape[n] != shape[n]
            for n in axes.free
        ):
            raise ValueError(
                "Query, key and value must have the same number of axes, "
                "and the same sizes of those that are not attended along, "
                f"{axes.free}. Received: query of shape {query_shape}, "
                f"{name} of shape {shape} for layer '{layer.name}'"
            )
    check_key_sizes(layer, value_shape, key_shape)


def check_key_sizes(layer: Any, value_shape: Shape, key_shape: Shape) -> None:
    """Raise a `ValueError` unless value and key have the same positions.

    Args:
        layer: The layer, for the error.
        value_shape: Shape of the value as it was given.
        key_shape: Shape of the key as it was given.
    """
    value_sizes, key_sizes = value_shape[1:-1], key_shape[1:-1]
    if len(value_sizes) != len(key_sizes) or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(value_sizes, key_sizes, strict=True)
    ):
        raise ValueError(
            "Key and value must have the same length, or the same sizes "
            "of all axes but the last, which must be equal. Received: "
            f"value of shape {tuple(value_shape)}, key of shape "
            f"{tuple(key_shape)} for layer '{layer.name}'"
        )


def check_is_sequence(layer: Any, axes: AttentionAxes) -> None:
    """Raise a `ValueError` for tensors of more axes, which have no cache.

    Args:
        layer: The layer, for the error.
        axes: What `find_axes` returned when the layer was built.
    """
    if axes.rank > 3:
        raise ValueError(
            "A cache is of sequences, tensors of shape (batch, length, "
            f"width). Received: layer '{layer.name}', built for tensors of "
            f"rank {axes.rank}"
        )


def fold_arguments(
    layer: Any,
    axes: AttentionAxes,
    given: CallArguments,
    num_heads: int | None,
) -> CallArguments:
    """Give tensors, masks and bias the axes of sequences.

    Args:
        layer: The layer, for errors.
        axes: As of `check_axes`.
        given: The arguments of a call, with value and key.
        num_heads: Integer, heads of masks and biases of the scores; `None` if
            they have no such axis.

    Raises:
        TypeError: For a mask of floats.
        ValueError: For shapes that do not fit.
    """
    query, value, key = given.query, given.value, given.key
    shapes = [tuple(x.shape) for x in (query, value, key)]
    check_axes(layer, axes, *shapes)
    # What is one tensor, or one mask, stays one.
    tensors = {id(x): x for x in (query, value, key)}
    folded = {n: axes.fold(x) for n, x in tensors.items()}
    changes = {
        "query": folded[id(query)],
        "value": folded[id(value)],
        "key": folded[id(key)],
    }
    names = "query_mask", "value_mask", "key_mask"
    for name, shape in zip(names, shapes, strict=True):
        given_mask = getattr(given, name)
        if given_mask is None:
            continue
        mask = to_boolean_mask(name, given_mask)
        check_sequence_mask(name, mask, shape, len(shape) - 1)
        if given_mask is given.query_mask and "query_mask" in changes:
            changes[name] = changes["query_mask"]
        else:
            changes[name] = axes.fold(mask)
    query_sizes, key_sizes = (
        x.shape if isinstance(x, keras.KerasTensor) else ops.shape(x)
        for x in (query, key)
    )
    if given.attention_mask is not None:
        changes["attention_mask"] = axes.fold_scores(
            "attention_mask",
            to_boolean_mask("attention_mask", given.attention_mask),
            query_sizes,
            key_sizes,
            num_heads,
        )
    if given.attention_bias is not None:
        changes["attention_bias"] = axes.fold_scores(
            "attention_bias",
            ops.convert_to_tensor(given.attention_bias),
            query_sizes,
            key_sizes,
            num_heads,
        )
    return given.replace(**changes)
