"""Finds the range that was set for a model, or that follows from it."""

import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_attention.pixels.pixel_range import ASSUMED
from keras_attention.pixels.pixel_range import NAMED
from keras_attention.pixels.pixel_range import RAW
from keras_attention.pixels.pixel_range import PixelRange

_RANGES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class FoundPixelRange:
    """A range, and how it is known.

    Attributes:
        pixels: The range.
        source: The reason in words, for a message.
        assumed: Whether nothing is known, so that the range is a guess.
        integers: Whether the model's input has integers.
    """

    pixels: PixelRange
    source: str
    assumed: bool = False
    integers: bool = False

    def __str__(self) -> str:
        return f"{self.pixels} ({self.source})"


def find_pixel_range(model: keras.Model) -> FoundPixelRange:
    """Find the range of pixels that a model takes.

    Args:
        model: A model of images.

    Returns:
        A `FoundPixelRange`: `pixels`, and `source`, how it is known. The
        module's documentation gives the order in which it is looked for.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Rescaling(1 / 255, name="scale"),
    ... ])
    >>> str(keras_attention.find_pixel_range(model))
    "0 to 255 (the model's layer 'scale' scales them)"
    """
    if model in _RANGES:
        return FoundPixelRange(_RANGES[model], "stored with the model")
    inner = inner_pixel_range(model)
    if inner is not None:
        return inner
    return FoundPixelRange(
        ASSUMED, "assumed: nothing is stored with the model", assumed=True
    )


def inner_pixel_range(model: keras.Model) -> FoundPixelRange | None:
    """Return the range that follows from the model itself, or `None`."""
    inputs = getattr(model, "inputs", None) or []
    if any(
        "int" in keras.backend.standardize_dtype(x.dtype)
        for x in inputs
        if len(x.shape) == 4
    ):
        return FoundPixelRange(
            RAW, "the model's input has integers", integers=True
        )
    for name, scale, offset in _first_scalings(model):
        pixels = _input_range(scale, offset)
        if pixels is not None:
            return FoundPixelRange(
                pixels, f"the model's layer '{name}' scales them"
            )
    return None


def set_pixel_range(model: keras.Model, pixels: str | PixelRange) -> None:
    """Say which range of pixels a model takes.

    The model itself is not changed. `save_model` and `export_for_serving`
    store the range with what they write, and the command line reads it there.

    Args:
        model: A model of images.
        pixels: A `PixelRange`, or a text as `PixelRange.parse` takes it.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If the text is not understood.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 3))])
    >>> keras_attention.set_pixel_range(model, "-1,1")
    >>> str(keras_attention.find_pixel_range(model))
    '-1 to 1 (stored with the model)'
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: {model!r}")
    _RANGES[model] = PixelRange.parse(pixels)


def stored_pixel_range(model: keras.Model) -> PixelRange | None:
    """Return what `set_pixel_range` has set, or `None`."""
    return _RANGES.get(model)


# What keeps the range of what goes through it.
_TRANSPARENT = {
    "CenterCrop",
    "Cropping2D",
    "Dropout",
    "Flip",
    "GaussianNoise",
    "GetItem",
    "Identity",
    "InputLayer",
    "Permute",
    "Pipeline",
    "Resizing",
    "Stack",
    "Transpose",
    "ZeroPadding2D",
}


def _first_scalings(model: Any) -> Iterator[tuple[str, float, float]]:
    """Yield `(name, scale, offset)` of what scales the input first."""
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            found = yield from _through(layer, None)
            if not found:
                return
    elif getattr(model, "inputs", None) and hasattr(model, "operations"):
        tensors = [x for x in model.inputs if len(x.shape) == 4]
        seen = set()
        while tensors:
            tensor = tensors.pop(0)
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            for operation in model.operations:
                for node in operation._inbound_nodes:
                    if not any(x is tensor for x in node.input_tensors):
                        continue
                    if (yield from _through(operation, node)):
                        tensors += node.output_tensors
    else:
        for layer in getattr(model, "layers", []):
            if not (yield from _through(layer, None)):
                return


def _through(operation, node):
    """Yield the scalings of one operation; return whether it is transparent."""
    kind = type(operation).__name__
    if kind in _TRANSPARENT or kind.startswith("Random"):
        return True
    if isinstance(operation, keras.Model):
        yield from _first_scalings(operation)
        return False
    scaling = _scaling(operation, kind, node)
    if scaling == (1.0, 0.0):
        return True
    if scaling is not None:
        yield operation.name, *scaling
    return False


def _scaling(operation, kind, node):
    """`(scale, offset)` that an operation applies, mean over channels."""
    if isinstance(operation, keras.layers.Rescaling):
        scale, offset = operation.scale, operation.offset
        return _mean(scale), _mean(offset)
    if isinstance(operation, keras.layers.Normalization):
        mean = getattr(operation, "mean", None)
        variance = getattr(operation, "variance", None)
        if mean is None or variance is None or operation.invert:
            return None
        mean, deviation = _mean(mean), np.sqrt(_mean(variance))
        if not deviation > 0:
            return None
        return float(1 / deviation), float(-mean / deviation)
    constant = _constant(node)
    if constant is None:
        return None
    return {
        "Add": (1.0, constant),
        "Subtract": (1.0, -constant),
        "Multiply": (constant, 0.0),
        "Divide": (constant and 1 / constant, 0.0),
        "TrueDivide": (constant and 1 / constant, 0.0),
    }.get(kind)


def _constant(node):
    """The second argument of `x + 3.0` and its like, or `None`."""
    if node is None or len(node.input_tensors) != 1:
        return None
    arguments = [*node.arguments.args, *node.arguments.kwargs.values()]
    if len(arguments) != 2 or arguments[0] is not node.input_tensors[0]:
        return None
    try:
        return _mean(arguments[1])
    except (TypeError, ValueError):
        return None


def _mean(value):
    return float(np.mean(keras.ops.convert_to_numpy(value)))


def _input_range(scale, offset):
    """The range whose pixels a scaling brings to a usual one, or `None`."""
    usual = ((0, 1), (-1, 1), (-0.5, 0.5), (0, 2), (0, 255), (-127.5, 127.5))
    candidates = [NAMED[name] for name in ("0,255", "0,1", "-1,1")]
    images = [
        (scale * each.minimum + offset, scale * each.maximum + offset)
        for each in candidates
    ]
    matches = [
        (max(abs(low - a), abs(high - b)) / (b - a), number)
        for number, (low, high) in enumerate(images)
        for a, b in usual
    ]
    error, number = min(matches)
    if error < 0.02:  # 1 / 256 for 1 / 255, 128 for 127.5.
        return candidates[number]
    # Centered, or standardized by a mean and a deviation of real images.
    for pixels, (low, high) in zip(candidates, images, strict=True):
        standardized = 2.5 <= high - low <= 8
        centered = scale == 1 and pixels.maximum == 255 and high - low == 255
        least = 0.15 * (high - low)
        if (standardized or centered) and low < -least and high > least:
            return pixels
    return None
