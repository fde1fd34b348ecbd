"""Checks files of torch before torch reads them."""

import os
import pathlib
import pickletools
import zipfile
from collections.abc import Iterator

from keras_attention.files.archives import open_archive
from keras_attention.files.archives import read_member
from keras_attention.files.limits import file_size

# Its reader of weights alone was mended there (CVE-2026-24747).
FLOOR = (2, 10)
MAX_PICKLE = 64 * 1024 * 1024
# What a dictionary of tensors is made of.
MODULES = {"collections", "torch", "torch._utils", "torch.storage"}
MODULES |= {"torch._tensor", "torch.nn.parameter", "numpy", "_codecs"}


def check_torch_file(path: str | os.PathLike) -> None:
    """Check that a file of torch stores what it claims.

    Args:
        path: The file, as `torch.save` writes it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its archive is damaged, or claims far more than it
            stores.
    """
    file_size(path)
    if zipfile.is_zipfile(path):
        with open_archive(path):
            pass


def list_globals(path: str | os.PathLike) -> list[str]:
    """Return the Python objects that a file of torch names, without loading.

    Args:
        path: The file.

    Raises:
        ValueError: If there is no pickle in it, or it is damaged.
    """
    return sorted({name for data in _pickles(path) for name in _names(data)})


def is_tensors_only(name: str) -> bool:
    """Return whether a name of `list_globals` is part of tensors."""
    module, _, _ = name.rpartition(".")
    return module in MODULES


def _pickles(path) -> Iterator[bytes]:
    file_size(path)
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            yield file.read(MAX_PICKLE)
        return
    with open_archive(path) as archive:
        for name in archive.namelist():
            if pathlib.PurePosixPath(name).name.endswith(".pkl"):
                yield read_member(archive, name, MAX_PICKLE)


def _names(data):
    """Yield the globals of one pickle, or of several one after another."""
    texts: list[str] = []
    try:
        for code, value, _ in pickletools.genops(data):
            if isinstance(value, str) and code.name != "GLOBAL":
                texts.append(value)
            if code.name in ("GLOBAL", "INST"):
                yield value.replace(" ", ".")
            elif code.name == "STACK_GLOBAL" and len(texts) > 1:
                yield f"{texts[-2]}.{texts[-1]}"
    except Exception as error:
        # Anything at all: the bytes may be of any file.
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"Not a complete pickle: {reason}") from error
