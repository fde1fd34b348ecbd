"""What the commands share that write a model."""

import os
import pathlib
import uuid
from typing import Any


def check_out(path: pathlib.Path, overwrite: bool) -> None:
    """Check that a model can be written at `path`.

    Raises:
        ValueError: if it does not end in `.keras`.
        FileNotFoundError: if its folder does not exist.
        FileExistsError: if it exists and `overwrite` is false.
    """
    if path.suffix != ".keras":
        raise ValueError(f"`--out` must end in .keras. Received: --out {path}")
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


def save_model(model: Any, path: pathlib.Path, overwrite: bool) -> None:
    """Write beside and rename: a reader never sees half a file."""
    beside = path.with_name(f".{uuid.uuid4().hex}.keras")
    try:
        model.save(beside)
        check_out(path, overwrite)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
