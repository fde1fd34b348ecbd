"""The range of pixels in the files of models and exports."""

import json
import os
import pathlib
import zipfile
from typing import Any

import keras

from keras_attention.files.keras_file import check_keras_file
from keras_attention.pixels.finding import set_pixel_range
from keras_attention.pixels.finding import stored_pixel_range
from keras_attention.pixels.pixel_range import PixelRange

RECORD = "keras_attention.json"
# A record is some hundred bytes; what is longer is none of ours.
MAX_RECORD_BYTES = 65_536


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
        ValueError: If the file cannot be loaded, its range is damaged, or
            `keras_attention.files.check_keras_file` refuses it.
    """
    if options.get("safe_mode", True):
        check_keras_file(path, options.get("custom_objects"))
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
