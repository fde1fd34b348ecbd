"""The range of pixels, as every command finds, prints and applies it."""

import pathlib
from typing import Any

import click

PIXELS = click.option(
    "--pixels",
    metavar="RANGE",
    help="Range of the pixels that the model takes: MIN,MAX such as 0,255 or "
    "-1,1; imagenet; caffe; or JSON with mean and std.  [default: what is "
    "stored with the model or follows from its layers, else 0,1]",
)


def find_pixels(model: Any, pixels: str | None) -> Any:
    """Return the `FoundPixelRange` of a model, or what the user gave."""
    from keras_attention.pixels import find_pixel_range
    from keras_attention.pixels import inner_pixel_range

    if pixels is None:
        return find_pixel_range(model)
    found = given_pixels(pixels)
    inner = inner_pixel_range(model)
    if inner is not None and inner.integers:
        if found.pixels != inner.pixels:
            raise ValueError(
                "The model's input has integers: it takes pixels of 0,255. "
                f"Received: --pixels {pixels}"
            )
        return inner
    if inner is not None and inner.pixels != found.pixels:
        click.echo(
            f"Warning: --pixels {pixels} is not what the model takes, {inner}",
            err=True,
        )
    return found


def check_same_pixels(
    found: Any, others: list[Any], pixels: str | None
) -> None:
    """Refuse models that are known to take other ranges than the first.

    They are shown the same images. A range given by `--pixels` is that of
    all, unless a model says otherwise itself.
    """
    from keras_attention.pixels import find_pixel_range
    from keras_attention.pixels import inner_pixel_range

    for model in others:
        other = find_pixel_range(model)
        if pixels is not None:
            other = inner_pixel_range(model) or found
        if not other.assumed and other.pixels != found.pixels:
            raise ValueError(
                "Models that are shown the same images must take one range "
                f"of pixels. Received: {found}, and for the model "
                f"'{model.name}' {other}. Put a keras.layers.Rescaling into "
                "one of them, or say the range of both with --pixels."
            )


def given_pixels(pixels: str) -> Any:
    """Return the `FoundPixelRange` of a `--pixels`."""
    from keras_attention.pixels import FoundPixelRange
    from keras_attention.pixels import PixelRange

    try:
        return FoundPixelRange(PixelRange.parse(pixels), "given by --pixels")
    except (TypeError, ValueError) as error:
        message = str(error).replace("`pixels`", "`--pixels`")
        message = message.replace("pixels=", "--pixels ")
        # A part of the range that is wrong does not say where it came from.
        if "--pixels" not in message:
            message += f" (from --pixels {pixels})"
        raise ValueError(message) from error


def echo_pixels(found: Any) -> None:
    """Print the range that is fed, if images are."""
    if found is not None:
        click.echo(f"Pixels: {found}")


def pixels_json(found: Any) -> Any:
    """Return the range that is fed, for JSON; `None` for no images."""
    if found is None:
        return None
    return {**found.pixels.to_json(), "source": found.source}


def scale_array(
    values: Any,
    found: Any,
    path: pathlib.Path | str,
    channels_last: bool = True,
    eight_bit: bool = False,
) -> Any:
    """Return images of an array as the model takes them, of float32.

    Integers are 8-bit pixels and are scaled; floats are taken as they are.

    Args:
        values: An array of images.
        found: The `FoundPixelRange` that is fed.
        path: The file, for errors.
        channels_last: Whether the channels are the last axis.
        eight_bit: Whether floats are pixels of 0 to 255 too, as resized
            images are.

    Raises:
        ValueError: For integers beyond 0 to 255, and for floats that cannot
            be of the range, if that is known.
    """
    import numpy as np

    low = float(values.min()) if values.size else 0
    high = float(values.max()) if values.size else 0
    if np.issubdtype(values.dtype, np.integer) or eight_bit:
        if low < 0 or high > 255:
            raise ValueError(
                "Images of integers must have values from 0 to 255. "
                f"Received: {path} with values from {low:g} to {high:g}"
            )
        if found.integers:
            return np.rint(values).astype("uint8")
        if channels_last:
            return found.pixels.scale_images(values)
        scaled = found.pixels.scale_images(np.moveaxis(values, 1, -1))
        return np.moveaxis(scaled, -1, 1)
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            "Images must be integers from 0 to 255, or floats in the range "
            f"that the model takes. Received: {path} of {values.dtype}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            "Images must have finite values. "
            f"Received: {path} with NaN or infinite values"
        )
    if not found.assumed:
        check_floats(low, high, found, path)
    return values.astype("float32")


def check_floats(low: float, high: float, found: Any, path: Any) -> None:
    """Raise `ValueError` if floats are plainly of another range."""
    least, most = found.pixels.limits()
    slack = 0.05 * (most - least)
    small = most - least > 100 and high - low <= 2 and high <= 1
    if low < least - slack or high > most + slack or small:
        raise ValueError(
            f"The images must have values of the range that the model takes, "
            f"{found}: floats are not scaled. Received: {path} with values "
            f"from {low:g} to {high:g}. Save the pixels as uint8, or give the "
            "range with --pixels."
        )
