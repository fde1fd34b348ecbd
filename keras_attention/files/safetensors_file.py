"""Reads the header of a file of safetensors."""

import os

from keras_attention.files.json_text import parse_json
from keras_attention.files.limits import file_size

# The format's own limit.
MAX_HEADER = 100_000_000


def list_safetensors(
    path: str | os.PathLike,
) -> list[tuple[str, tuple[int, ...], str]]:
    """Return name, shape and dtype of each tensor, from the header alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the header is damaged, or tells of more than the file
            has.
    """
    size = file_size(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise ValueError(
                f"{path} cannot be read: it is not a complete file of "
                f"safetensors: the header claims {length:,} bytes of {size:,}"
            )
        header = parse_json(file.read(length), path)
    rows = []
    if not isinstance(header, dict):
        raise ValueError(f"{path}: The header must be a JSON object")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            start, end = entry["data_offsets"]
            shape = tuple(int(n) for n in entry["shape"])
            row = (name, shape, str(entry["dtype"]))
            fits = 0 <= start <= end <= size - 8 - length
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: The header's entry '{name}' is damaged"
            ) from error
        if not fits or min(shape, default=0) < 0:
            raise ValueError(
                f"{path}: The tensor '{name}' is said to be outside of the file"
            )
        rows.append(row)
    return rows
