"""Checks files of HDF5 before Keras reads weights from them."""

import math
import os
from collections.abc import Iterator
from typing import Any

from keras_attention.files.limits import MAX_RATIO

MAX_OBJECTS = 1_000_000
# Below it, a data set that stores nothing is not a danger.
SMALL = 1024 * 1024


def check_hdf5(file: Any, origin: str | os.PathLike) -> int:
    """Check a file of HDF5; return the number of values that it stores.

    Args:
        file: Path, or binary file object.
        origin: Its name, for messages.

    Raises:
        ValueError: If the file is damaged, refers to other files, or has a
            data set that claims far more than it stores.
    """
    return sum(math.prod(shape) for _, shape, _ in list_hdf5(file, origin))


def list_hdf5(
    file: Any, origin: str | os.PathLike
) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Yield name, shape and dtype of each data set; raise as `check_hdf5`."""
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            yield from _walk(opened, origin)
    except (
        KeyError,
        MemoryError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{origin}: Damaged, or not a file of HDF5: {reason}"
        ) from error


def _walk(opened, origin):
    import h5py

    pending, seen = [("", opened)], set()
    while pending:
        name, group = pending.pop()
        for key in group:
            path = f"{name}/{key}"
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = type(link).__name__
                raise ValueError(
                    f"{origin}: '{path}' is a link ({kind}), which could lead "
                    "to another file. Nothing was read"
                )
            value = group[key]
            if value.id.valid and isinstance(value, h5py.Dataset):
                _check_dataset(value, path, origin)
                yield path, value.shape, str(value.dtype)
                continue
            if not isinstance(value, h5py.Group):
                continue
            address = h5py.h5o.get_info(value.id).addr
            # A group that contains itself would never end.
            if address not in seen:
                seen.add(address)
                pending.append((path, value))
            if len(seen) > MAX_OBJECTS:
                raise ValueError(
                    f"{origin}: More than {MAX_OBJECTS:,} groups of weights"
                )


def _check_dataset(dataset, path, origin):
    if dataset.is_virtual or dataset.external:
        raise ValueError(
            f"{origin}: The data of '{path}' are in another file. Nothing "
            "was read"
        )
    if dataset.shape is None:
        raise ValueError(f"{origin}: '{path}' has no values")
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    # Keras stores weights as they are. What is compressed may shrink.
    plain = dataset.compression is None and dataset.chunks is None
    limit = stored if plain else MAX_RATIO * stored
    if claimed > max(limit, SMALL):
        raise ValueError(
            f"{origin}: '{path}' claims {claimed:,} bytes and stores "
            f"{stored:,}. Nothing was read"
        )
