"""How pixels are scaled for a model."""

import dataclasses
import inspect
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.validation import check_choice
from keras_attention.validation import check_number


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
            ValueError: If the text is none of these, or its minimum is not
                smaller than its maximum.

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
                given = json.loads(pixels)
                inspect.signature(cls).bind(**given)
            else:
                minimum, maximum = map(float, pixels.split(","))
                given = {"minimum": minimum, "maximum": maximum}
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                "`pixels` must be MINIMUM,MAXIMUM such as 0,255 or -1,1, "
                f"one of {', '.join(NAMED)}, or a JSON object such as "
                '{"mean": [0.5], "std": [0.25]}. '
                f"Received: pixels={pixels!r}"
            ) from error
        return cls(**given)

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
