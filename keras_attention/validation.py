"""Argument checks for every subpackage: one wording for every error.

Each function returns the checked value, so that a constructor reads
`self.ratio = check_positive_integer("ratio", ratio)`.
"""

import difflib
import math
import numbers
from collections.abc import Hashable
from collections.abc import Iterable
from typing import Any

# Those on which everything works; layers may be computed on others.
BACKENDS = ("tensorflow", "jax", "torch")
# What a tensor of so many axes is, the batch and the channels counted.
RANKS = {3: "a sequence", 4: "an image", 5: "a volume"}


def check_positive_integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an `int`, at least `minimum`.

    Raises:
        TypeError: If `value` is not an integer (`bool` is not one).
        ValueError: If `value` is smaller than `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"`{name}` must be an integer of at least {minimum}. "
            f"Received: {name}={value!r} (of type {type(value).__name__})"
        )
    if value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. "
            f"Received: {name}={value}"
        )
    return int(value)


def check_optional_integer(name: str, value: Any) -> int | None:
    """Return `value` as `check_positive_integer` does, or `None` for `None`."""
    return None if value is None else check_positive_integer(name, value)


def check_positive_integers(
    name: str, values: Any, least: int = 1
) -> tuple[int, ...]:
    """Return `values` as a tuple of `least` or more different integers.

    Raises:
        TypeError: If `values` is not a list or tuple of integers.
        ValueError: If one is smaller than 1, given twice, or too few are.
    """
    if not isinstance(values, list | tuple):
        raise TypeError(
            f"`{name}` must be a list or tuple of positive integers. "
            f"Received: {name}={values!r} (of type {type(values).__name__})"
        )
    checked = tuple(check_positive_integer(name, value) for value in values)
    if len(checked) < least or len(set(checked)) < len(checked):
        raise ValueError(
            f"`{name}` must hold at least {least} integers, and none twice. "
            f"Received: {name}={values!r}"
        )
    return checked


def check_pair(name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """Return `value` as two integers, the same one twice if it is one.

    Raises:
        TypeError: If `value` is no integer, and no list or tuple of them.
        ValueError: If one is smaller than `minimum`, or there are not two.
    """
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"`{name}` must be an integer, or two of them. "
            f"Received: {name}={value!r}"
        )
    first, second = (check_positive_integer(name, n, minimum) for n in pair)
    return first, second


def check_odd_integer(name: str, value: Any) -> int:
    """Return `value` as a positive, odd `int`: a kernel with a center.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If `value` is even or smaller than 1.
    """
    if check_positive_integer(name, value) % 2 == 0:
        raise ValueError(
            f"`{name}` must be odd, so that the kernel has a center. "
            f"Received: {name}={value}"
        )
    return int(value)


def check_number(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: bool = False,
    exclusive_maximum: bool = False,
) -> float:
    """Return `value` as a finite `float` inside the given bounds.

    Raises:
        TypeError: If `value` is not a real number (`bool` is not one).
        ValueError: If `value` is not finite or out of bounds.
    """
    bounds = []
    if minimum is not None:
        bounds.append(f"{'>' if exclusive_minimum else '>='} {minimum}")
    if maximum is not None:
        bounds.append(f"{'<' if exclusive_maximum else '<='} {maximum}")
    expected = "a finite number" + (" " + " and ".join(bounds)) * bool(bounds)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {expected}. "
            f"Received: {name}={value!r} (of type {type(value).__name__})"
        )
    # A `Real` compares with a float, though its type does not say so.
    number: Any = value
    too_low = minimum is not None and (
        number <= minimum if exclusive_minimum else number < minimum
    )
    too_high = maximum is not None and (
        number >= maximum if exclusive_maximum else number > maximum
    )
    if not math.isfinite(value) or too_low or too_high:
        raise ValueError(
            f"`{name}` must be {expected}. Received: {name}={value}"
        )
    return float(value)


def check_probability(name: str, value: Any) -> float:
    """Return `value` as a `float` in [0, 1): a dropout rate."""
    return check_number(name, value, 0, 1, exclusive_maximum=True)


def check_seed(seed: Any) -> int | None:
    """Return a seed as an `int` of at least 0, or `None`."""
    if seed is None:
        return None
    return check_positive_integer("seed", seed, minimum=0)


def check_boolean(name: str, value: Any) -> bool:
    """Return `value`; raise `TypeError` unless it is `True` or `False`."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False. "
            f"Received: {name}={value!r} (of type {type(value).__name__})"
        )
    return value


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Return the one of `choices` that `value` is.

    2.0 and `True` are not the choice 2; an integer of NumPy is.

    Raises:
        ValueError: otherwise; the message lists the choices and offers the
            nearest one.
    """
    choices = list(choices)
    for choice in choices:
        if _is_choice(value, choice):
            return choice
    raise ValueError(
        f"`{name}` must be one of {', '.join(map(repr, choices))}. "
        f"Received: {name}={value!r}.{nearest(value, choices)}"
    )


def check_choices(
    name: str, values: Any, choices: Iterable[Any]
) -> tuple[Any, ...]:
    """Return `values` as a tuple of one or more different `choices`.

    Raises:
        TypeError: If `values` is not a list or tuple.
        ValueError: If it is empty, names one twice, or one that is unknown.
    """
    choices = list(choices)
    if not isinstance(values, list | tuple):
        raise TypeError(
            f"`{name}` must be a list or tuple of "
            f"{', '.join(map(repr, choices))}. "
            f"Received: {name}={values!r} (of type {type(values).__name__})"
        )
    values = tuple(check_choice(name, value, choices) for value in values)
    if not values or len(set(values)) < len(values):
        raise ValueError(
            f"`{name}` must name at least one of "
            f"{', '.join(map(repr, choices))}, and none twice. "
            f"Received: {name}={values!r}"
        )
    return values


def check_data_format(data_format: str | None) -> str:
    """Return the image data format, Keras' configured one for `None`."""
    import keras

    if data_format is None:
        return keras.config.image_data_format()
    return check_choice(
        "data_format", data_format, ("channels_last", "channels_first")
    )


def check_image_shape(
    layer: Any, shape: Any, ranks: tuple[int, ...] = (4,)
) -> int:
    """Return the number of channels of an image's shape.

    Args:
        layer: the layer that is built; its `name` and `data_format` are used.
        shape: `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` for `channels_first`.
        ranks: ranks that are allowed: 3 for sequences, 4 for images, 5 for
            volumes. Defaults to `(4,)`.

    Raises:
        ValueError: If the rank is another or the channels are undefined.
    """
    kind = type(layer).__name__
    if len(shape) not in ranks and len(ranks) > 1:
        names = _alternatives(RANKS[rank] for rank in ranks)
        sizes = _alternatives(map(str, ranks))
        raise ValueError(
            f"{kind} expects {names}, tensors of rank {sizes}: batch, spatial "
            "axes, and channels, which are last for "
            "data_format='channels_last' and second for 'channels_first'. "
            f"Received: shape={tuple(shape)} for layer '{layer.name}'"
        )
    if len(shape) not in ranks:
        raise ValueError(
            f"{kind} expects an image tensor of rank 4, "
            "(batch, height, width, channels) for data_format='channels_last' "
            "or (batch, channels, height, width) for 'channels_first'. "
            f"Received: shape={tuple(shape)} for layer '{layer.name}'"
        )
    channels = shape[-1 if layer.data_format == "channels_last" else 1]
    if not channels:
        raise ValueError(
            f"{kind} needs a defined number of channels, at least 1, to make "
            f"its weights. Received: shape={tuple(shape)} with "
            f"data_format='{layer.data_format}' for layer '{layer.name}'. "
            "Give the input's channels, or set `data_format`."
        )
    check_image_sizes(layer, shape)
    return channels


def check_image_sizes(layer: Any, shape: Any) -> None:
    """Raise a `ValueError` if an image has a size of 0 that is known.

    Args:
        layer: the layer that is built or called; its `name` and `data_format`
            are used.
        shape: shape of an image, sequence or volume, batch and channels
            included.
    """
    sizes = list(shape)
    if len(sizes) not in RANKS:
        return
    del sizes[-1 if layer.data_format == "channels_last" else 1], sizes[0]
    if 0 in sizes:
        names = {3: "time", 4: "height, width", 5: "depth, height, width"}
        raise ValueError(
            f"{type(layer).__name__} expects {RANKS[len(shape)]} of at least "
            f"one position, of sizes ({names[len(shape)]}) that are 1 or more. "
            f"Received: shape={tuple(shape)} with "
            f"data_format='{layer.data_format}' for layer '{layer.name}'. "
            "Leave out what is empty; only the batch may be."
        )


def check_divides(layer: Any, name: str, value: int, channels: int) -> None:
    """Raise a `ValueError` unless the channels can be split into `value`.

    Args:
        layer: the layer that is built; its `name` is used.
        name: of the argument.
        value: what it is, a positive integer.
        channels: number of channels.
    """
    if channels % value:
        raise ValueError(
            f"{type(layer).__name__}'s `{name}` must divide the channels. "
            f"Received: {name}={value} for {channels} channels in layer "
            f"'{layer.name}'. Give a divisor of them, such as "
            f"{math.gcd(value, channels)}."
        )


def shapes_broadcast(shape: Iterable, target: Iterable) -> bool:
    """Whether a shape broadcasts to a target of as many axes.

    A size that is `None`, on either side, fits.
    """
    return all(
        size in (1, wanted) or size is None or wanted is None
        for size, wanted in zip(shape, target, strict=True)
    )


def check_sequence_shape(layer: Any, shape: Any) -> int:
    """Return the number of channels of a `(batch, time, channels)` shape.

    Args:
        layer: the layer that is built; its `name` is used.
        shape: the shape of its input.

    Raises:
        ValueError: If the rank is not 3, or the channels are undefined or 0.
    """
    shape = check_sequence_rank(layer, shape)
    if not shape[-1]:
        raise ValueError(
            f"{type(layer).__name__} needs a defined number of channels, at "
            f"least 1, to make its weights. Received: shape={shape} for layer "
            f"'{layer.name}'. Give the input's last dimension."
        )
    return shape[-1]


def check_sequence_rank(layer: Any, shape: Any) -> tuple[int | None, ...]:
    """Return a `(batch, time, channels)` shape, of which all may be `None`.

    Raises:
        ValueError: If it is no shape, or its rank is not 3.
    """
    if isinstance(shape, Iterable) and len(tuple(shape)) != 3:
        raise ValueError(
            f"{type(layer).__name__} expects a sequence of rank 3, (batch, "
            f"time, channels). Received: shape={tuple(shape)} for layer "
            f"'{layer.name}'"
        )
    return check_is_shape("shape", shape)


def check_is_shape(name: str, shape: Any) -> tuple[int | None, ...]:
    """Return a shape as a tuple.

    Raises:
        ValueError: If it is no sequence of integers and `None`.
    """
    # Not only tuples: TensorFlow has a class of its own.
    if not isinstance(shape, Iterable) or not all(
        isinstance(size, numbers.Integral | None) for size in shape
    ):
        raise ValueError(
            f"`{name}` must be a shape, a tuple of integers and None such as "
            f"(None, 10, 64). Received: {name}={shape!r}"
        )
    if any(size is not None and size < 0 for size in shape):
        raise ValueError(
            f"`{name}` must have no negative sizes; a size that is not known "
            f"is None. Received: {name}={tuple(shape)}"
        )
    return tuple(shape)


def check_shape(name: str, shape: Any, expected: Any, layer: Any) -> None:
    """Raise a `ValueError` unless known sizes of the shapes are equal."""
    fits = len(shape) == len(expected) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must have the shape {tuple(expected)}. Received: "
            f"shape={tuple(shape)} for layer '{layer.name}'"
        )


def check_labels(labels: Any, count: int, noun: str = "image") -> list[Any]:
    """Return one label for each example; one-hot rows become class indices.

    Args:
        labels: A sequence or array of texts or numbers, `(count,)` or
            `(count, 1)`, or one-hot rows `(count, classes)`.
        count: Number of examples.
        noun: What an example is, for the error. Defaults to `"image"`.

    Raises:
        ValueError: If there are more or fewer, or rows are not one-hot.
    """
    import numpy as np

    try:
        array = np.asarray(labels)
    except ValueError:  # Rows of several lengths.
        array = np.empty((), object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf":
        is_one_hot = (array == 1).sum(1) == 1
        if (is_one_hot & ((array != 0).sum(1) == 1)).all():
            array = array.argmax(1)
    if array.ndim != 1:
        raise ValueError(
            f"`labels` must be one text or number for each {noun}, or one-hot "
            "rows, (count, classes) with a single 1 in each. Received: labels "
            f"of shape {array.shape}. For probabilities pass "
            "labels.argmax(axis=1)."
        )
    if len(array) != count:
        raise ValueError(
            f"`labels` must have one entry for each {noun}. Received: "
            f"{len(array)} labels for {count} {noun}s"
        )
    # A list keeps its own objects, which an array may have made texts of.
    is_list = isinstance(labels, list | tuple | range)
    same = is_list and not any(np.ndim(label) for label in labels)
    return list(labels) if same else array.tolist()


def check_backend(what: str, backends: Iterable[str] = BACKENDS) -> None:
    """Check that something works on Keras' backend.

    Raises:
        NotImplementedError: if it does not.
    """
    import keras

    backend = keras.backend.backend()
    if backend not in backends:
        raise NotImplementedError(
            f"{what} works on the backends {', '.join(backends)}. Received: "
            f"keras.backend.backend()={backend!r}. Set KERAS_BACKEND to one of "
            "them before keras is imported."
        )


def nearest(value: Any, choices: Iterable[Any]) -> str:
    """Return ` Did you mean 'x'?` for the closest choices, or nothing."""
    known: dict[str, str] = {}
    for choice in map(str, choices):
        known.setdefault(choice.lower(), choice)
    close = difflib.get_close_matches(
        str(value).lower(), list(known), n=3, cutoff=0.5
    )
    if not close:
        return ""
    names = " or ".join(repr(known[name]) for name in close)
    return f" Did you mean {names}?"


def _is_choice(value, choice):
    if isinstance(choice, numbers.Integral):
        is_integer = isinstance(value, numbers.Integral)
        if not is_integer or isinstance(value, bool) != isinstance(
            choice, bool
        ):
            return False
    # An array, which is not hashable, is compared element by element.
    return isinstance(value, Hashable) and bool(value == choice)


def _alternatives(words):
    """Join words with commas, the last two with "or"."""
    *others, last = words
    return f"{', '.join(others)} or {last}"
