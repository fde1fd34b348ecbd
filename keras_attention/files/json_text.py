"""Reads JSON of limited size and depth."""

import json
import os
import pathlib
from typing import Any

from keras_attention.files.limits import file_size

# Python's objects take about eight times the bytes of the text.
MAX_BYTES = 100_000_000


def read_json(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file.

    Args:
        path: The file, in UTF-8.
        max_bytes: The largest size that is read. Defaults to 100 million.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is too large, not valid JSON, or nested too deeply;
            with its name.
    """
    return parse_json(read_text(path, max_bytes), path)


def read_text(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> str:
    """Read a text file in UTF-8; raise as `read_json`."""
    size = file_size(path)
    if size > max_bytes:
        raise ValueError(
            f"{path}: Text files are read up to {max_bytes:,} bytes. "
            f"Received: {size:,} bytes"
        )
    try:
        return pathlib.Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} cannot be read: it is not a text in UTF-8: {error}"
        ) from error


def parse_json(text: str | bytes, origin: str | os.PathLike) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text, or its bytes.
        origin: Where it comes from, for the message.

    Raises:
        ValueError: If it is not valid JSON or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(
            f"{origin} cannot be read: the JSON is nested too deeply"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{origin} cannot be read: it is not valid JSON: {error}"
        ) from error
