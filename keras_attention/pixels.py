"""The range of pixels that a model takes, kept with the model.

A model gives silently wrong predictions for images of another range than it
was trained on. Here the range is found once for everything that feeds images
to a model: the command line, the exports and their verification.

The sources, in this order:

1. what was set by `set_pixel_range`, or is stored in the file or export that
   the model comes from;
2. an integer input, which takes pixels as they are;
3. a layer or operation inside the model that scales its input, such as
   `keras.layers.Rescaling(1 / 255)` or the preprocessing of a network of
   `keras.applications`: such a model takes the values of image files;
4. where nothing is known, 0 to 1 is assumed, and what feeds the model says so.

The range is stored as `keras_attention.json`: a member of the `.keras` file,
which Keras' own `load_model` passes over, or a file in an export's folder.
"""

import dataclasses
import json
import os
import pathlib
import weakref
import zipfile
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.validation import check_choice
from keras_attention.validation import check_number

RECORD = "keras_attention.json"
# A record is some hundred bytes; what is longer is none of ours.
MAX_RECORD_BYTES = 65_536
_RANGES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _per_channel(name, value):
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise TypeError(
            f"`{name}` must be a list with a number for each channel, or "
            f"None. Received: {name}={value!r}"
        )
    bound = {"minimum": 0, "exclusive_minimum": True} if name == "std" else {}
    return tuple(check_number(name, part, **bound) for part in value)


@dataclasses.dataclass(frozen=True)
class PixelRange:
    """How the 8-bit pixels of an image are scaled for a model.

    Values of 0 to 255 are mapped linearly to `[minimum, maximum]`; then the
    mean is subtracted and the result divided by the standard deviation, by
    channel.

    Args:
        minimum: What 0 is mapped to. Defaults to 0.
        maximum: What 255 is mapped to. Defaults to 1.
        mean: A number for each channel that is subtracted, or `None`.
            Defaults to `None`.
        std: A number for each channel to divide by, or `None`. Defaults to
            `None`.
        channel_order: `"rgb"` or `"bgr"`, the order of the channels that the
            model takes; `mean` and `std` are in this order. Defaults to
            `"rgb"`.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Example:

    >>> pixels = keras_attention.PixelRange(-1, 1)
    >>> pixels.scale_images(np.array([[[[0, 102, 255]]]], "uint8")).tolist()
    [[[[-1.0, -0.20000000298023224, 1.0]]]]
    """

    minimum: float = 0.0
    maximum: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: str = "rgb"

    def __post_init__(self):
        low = check_number("minimum", self.minimum)
        high = check_number("maximum", self.maximum)
        object.__setattr__(self, "minimum", low)
        object.__setattr__(self, "maximum", high)
        if not low < high:
            raise ValueError(
                "`minimum` must be smaller than `maximum`. "
                f"Received: minimum={low}, maximum={high}"
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            object.__setattr__(self, name, _per_channel(name, value))
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise ValueError(
                "`mean` and `std` must have a number for each channel. "
                f"Received: mean={self.mean}, std={self.std}"
            )
        check_choice("channel_order", self.channel_order, ("rgb", "bgr"))

    @classmethod
    def parse(cls, pixels: "str | PixelRange") -> "PixelRange":
        """Return the range that a text names.

        Args:
            pixels: `"MINIMUM,MAXIMUM"`, such as `"0,255"`, `"0,1"` and
                `"-1,1"`; `"imagenet"`, 0 to 1 standardized by the mean and
                standard deviation of ImageNet; `"caffe"`, 0 to 255 in the
                order BGR with ImageNet's mean subtracted, as
                `keras.applications` preprocesses for ResNet50 and VGG; or a
                JSON object of the arguments of `PixelRange`.

        Raises:
            TypeError: If it is neither a string nor a `PixelRange`.
            ValueError: If the text is none of these.

        Example:

        >>> str(keras_attention.PixelRange.parse("0,255"))
        '0 to 255'
        """
        if isinstance(pixels, PixelRange):
            return pixels
        if not isinstance(pixels, str):
            raise TypeError(
                "`pixels` must be a PixelRange or a text such as '0,255'. "
                f"Received: pixels={pixels!r}"
            )
        if pixels in NAMED:
            return NAMED[pixels]
        try:
            if pixels.startswith("{"):
                return cls(**json.loads(pixels))
            minimum, maximum = map(float, pixels.split(","))
            return cls(minimum, maximum)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                "`pixels` must be MINIMUM,MAXIMUM such as 0,255 or -1,1, "
                f"one of {', '.join(NAMED)}, or a JSON object such as "
                '{"mean": [0.5], "std": [0.25]}. '
                f"Received: pixels={pixels!r}"
            ) from error

    def scale_images(self, images: Any) -> Any:
        """Scale 8-bit pixels.

        Args:
            images: Array or TensorFlow tensor of values 0 to 255, the
                channels last.

        Returns:
            The same shape, of float32; for `"bgr"` with the channels
            reversed.

        Raises:
            ValueError: If `mean` or `std` has another number of channels.
        """
        channels = images.shape[-1]
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given and len(given) not in (1, channels):
                raise ValueError(
                    f"`{name}` must have a number for each channel of the "
                    f"images, {channels}. Received: {name}={given}"
                )
        if self.channel_order == "bgr":
            images = images[..., ::-1]
        scale = (self.maximum - self.minimum) / 255 / np.array(self.std or 1)
        offset = (self.minimum - np.array(self.mean or 0)) / np.array(
            self.std or 1
        )
        if isinstance(images, np.ndarray):
            return (images * scale + offset).astype("float32")
        return images * scale.astype("float32") + offset.astype("float32")

    def limits(self) -> tuple[float, float]:
        """Return the smallest and the largest value of a scaled pixel."""
        mean, std = np.array(self.mean or 0), np.array(self.std or 1)
        low, high = (self.minimum - mean) / std, (self.maximum - mean) / std
        return float(low.min()), float(high.max())

    def to_json(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, and the range.

        `PixelRange(**value)` is the same range.
        """
        value = dataclasses.asdict(self)
        left_out = {"mean": None, "std": None, "channel_order": "rgb"}
        return {
            key: list(part) if isinstance(part, tuple) else part
            for key, part in value.items()
            if key not in left_out or part != left_out[key]
        }

    def __str__(self) -> str:
        text = f"{self.minimum:g} to {self.maximum:g}"
        for name, word in (("mean", "mean"), ("std", "standard deviation")):
            value = getattr(self, name)
            if value:
                text += f", {word} {', '.join(f'{x:g}' for x in value)}"
        return text + ", BGR" * (self.channel_order == "bgr")


NAMED = {
    "0,255": PixelRange(0, 255),
    "0,1": PixelRange(0, 1),
    "-1,1": PixelRange(-1, 1),
    "imagenet": PixelRange(0, 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": PixelRange(
        0, 255, (103.939, 116.779, 123.68), channel_order="bgr"
    ),
}
RAW = NAMED["0,255"]
ASSUMED = NAMED["0,1"]


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


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Save a model together with the range of pixels that was set for it.

    The file is Keras' own: `keras.saving.load_model` reads it, without the
    range.

    Args:
        model: A Keras model.
        path: A file that ends in `.keras`; one that exists is replaced.

    Raises:
        ValueError: If `path` does not end in `.keras`.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(16, 3),
    ... ])
    >>> keras_attention.set_pixel_range(model, "-1,1")
    >>> keras_attention.save_model(model, "model.keras")
    >>> loaded = keras_attention.load_model("model.keras")
    >>> str(keras_attention.find_pixel_range(loaded))
    '-1 to 1 (stored with the model)'
    """
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"`path` must end in .keras. Received: path='{path}'")
    model.save(path)
    pixels = stored_pixel_range(model)
    if pixels is not None:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(RECORD, record_text(pixels))


def load_model(path: str | os.PathLike, **options: Any) -> keras.Model:
    """Load a model together with the range of pixels stored by `save_model`.

    Args:
        path: A `.keras` file.
        **options: Further arguments of `keras.saving.load_model`.

    Raises:
        ValueError: If the file cannot be loaded, or its range is damaged.
    """
    model = keras.saving.load_model(path, **options)
    pixels = read_record(path)
    if pixels is not None:
        set_pixel_range(model, pixels)
    return model


def record_text(pixels: PixelRange) -> str:
    """Return the contents of a record."""
    return json.dumps({"pixels": pixels.to_json()}, indent=2) + "\n"


def read_record(path: str | os.PathLike) -> PixelRange | None:
    """Return the range stored in a `.keras` file or an export, or `None`.

    Args:
        path: A `.keras` file, or the folder of one version of an export.

    Raises:
        ValueError: If there is a record that is damaged.
    """
    path = pathlib.Path(path)
    text = None
    if path.is_dir():
        # In a SavedModel where TensorFlow keeps what it does not read.
        for file in (path / "assets.extra" / RECORD, path / RECORD):
            if file.is_file() and file.stat().st_size <= MAX_RECORD_BYTES:
                text = file.read_bytes()
                break
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (
                RECORD in archive.namelist()
                and archive.getinfo(RECORD).file_size <= MAX_RECORD_BYTES
            ):
                text = archive.read(RECORD)
    if text is None:
        return None
    try:
        return PixelRange(**json.loads(text)["pixels"])
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"The range of pixels stored in '{path}', {RECORD}, is damaged: "
            f"{error}"
        ) from error


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
    # Centred, or standardized by a mean and a deviation of real images.
    for pixels, (low, high) in zip(candidates, images, strict=True):
        standardized = 2.5 <= high - low <= 8
        centred = scale == 1 and pixels.maximum == 255 and high - low == 255
        least = 0.15 * (high - low)
        if (standardized or centred) and low < -least and high > least:
            return pixels
    return None
