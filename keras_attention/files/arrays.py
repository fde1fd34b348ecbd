"""Reads `.npy` and `.npz` files whose headers fit what they store."""

import io
import math
import os
import pathlib
import tokenize
from typing import Any

import numpy as np

from keras_attention.files.archives import open_archive
from keras_attention.files.archives import read_member
from keras_attention.files.limits import file_size

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the arrays of an `.npz` file by name.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.npz` file, is damaged, claims more than it
            stores, or has an array of Python objects, which are pickled.

    Example:

    >>> from keras_attention.files import read_arrays
    >>> np.savez("images.npz", x=np.ones((2, 3)))
    >>> {name: x.shape for name, x in read_arrays("images.npz").items()}
    {'x': (2, 3)}
    """
    arrays = {}
    with open_archive(path) as archive:
        for name in archive.namelist():
            contents = read_member(archive, name)
            stem = name.removesuffix(".npy")
            arrays[stem] = _parse(contents, f"{path}/{name}")
    return arrays


def read_array(path: str | os.PathLike) -> np.ndarray:
    """Read the array of an `.npy` file; raise as `read_arrays` does."""
    file_size(path)
    return _parse(pathlib.Path(path).read_bytes(), path)


def list_arrays(path: str | os.PathLike) -> dict[str, tuple[tuple, str]]:
    """Return shapes and dtypes by name, of an `.npz` or `.npy` file.

    Of a compressed member only the header is read.

    Raises:
        ValueError: As `read_arrays`.
    """
    if pathlib.Path(path).suffix.lower() == ".npy":
        file_size(path)
        with open(path, "rb") as file:
            shape, _, dtype = _header(file, path)
        return {"": (shape, str(dtype))}
    found = {}
    with open_archive(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                head = io.BytesIO(file.read(16_384))
            shape, _, dtype = _header(head, f"{path}/{name}")
            found[name.removesuffix(".npy")] = shape, str(dtype)
    return found


def _parse(contents: bytes, origin: Any) -> np.ndarray:
    stream = io.BytesIO(contents)
    shape, fortran, dtype = _header(stream, origin)
    claimed = math.prod(shape) * dtype.itemsize
    start = stream.tell()
    if min(shape, default=0) < 0 or claimed > len(contents) - start:
        raise ValueError(
            f"{origin} cannot be read: the header claims {claimed:,} bytes for "
            f"the shape {shape}, and {len(contents) - start:,} are there. Is "
            "it complete?"
        )
    count = math.prod(shape)
    array = np.frombuffer(contents, dtype, count, start).copy()
    if fortran:
        return array.reshape(shape[::-1]).transpose()
    return array.reshape(shape)


def _header(stream, origin):
    """Return shape, order and dtype of an array."""
    try:
        version = np.lib.format.read_magic(stream)
        header = HEADERS[version](stream)
    except (
        KeyError,
        MemoryError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
        tokenize.TokenError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{origin} cannot be read: it is not an array as np.save writes "
            f"it: {reason}"
        ) from error
    if header[2].hasobject:
        raise ValueError(
            f"{origin} cannot be read: the array holds Python objects, which "
            "are pickled and could run code. Save numbers or texts"
        )
    if header[2].itemsize == 0 and math.prod(header[0]) > 0:
        raise ValueError(
            f"{origin} cannot be read: the array's items have no size"
        )
    return header
