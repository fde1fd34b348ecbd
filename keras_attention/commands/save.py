"""What the commands share that write a model."""

import os
import pathlib
from typing import Any


def check_out(path: pathlib.Path, overwrite: bool) -> None:
    """Check that a model can be written at `path`.

    Raises:
        ValueError: If it does not end in `.keras`.
        FileNotFoundError: If its folder does not exist.
        FileExistsError: If it exists and `overwrite` is false.
        PermissionError: If the folder cannot be written to.
    """
    if path.suffix != ".keras":
        raise ValueError(f"`--out` must end in .keras. Received: --out {path}")
    check_is_file(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of `--out` does not exist: make it first. "
            f"Received: --out {path}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            "A file that exists is not overwritten: give another --out, or "
            f"--overwrite. Received: --out {path}"
        )


def check_is_file(path: pathlib.Path) -> None:
    """Raise an error if no file can be at `path`."""
    if path.is_dir():
        raise ValueError(
            f"`--out` must be a file. Received: --out {path}, a folder"
        )
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir():
        raise ValueError(
            f"The folder of `--out` must be a folder. Received: --out {path}, "
            f"and {above} is a file"
        )
    if not os.access(above, os.W_OK):
        raise PermissionError(
            f"The folder of `--out` cannot be written to. Received: --out "
            f"{path}. Give a path in a folder of yours, or change the "
            f"permissions of {above}."
        )


def save_model(
    model: Any, path: pathlib.Path, overwrite: bool, found: Any = None
) -> None:
    """Write a temporary file and rename it: no reader sees half a file.

    Args:
        model: a Keras model.
        path: where it is saved.
        overwrite: whether a file that exists is replaced.
        found: the `FoundPixelRange` of the model's images, stored unless it
            was only assumed.
    """
    from keras_attention import pixels
    from keras_attention.files.temporary import replace_when_written

    if found is not None and not found.assumed:
        pixels.set_pixel_range(model, found.pixels)
    with replace_when_written(path) as temporary:
        pixels.save_model(model, temporary)
        check_out(path, overwrite)
