"""Reads the arrays of .npy and .npz files."""

import pathlib
import zipfile
import zlib
from typing import Any

ONE = "x"


def read_arrays(path: pathlib.Path | str) -> dict[str, Any]:
    """Return the arrays of a file by name; that of an .npy file is `"x"`.

    Raises:
        ValueError: If the file is none of these, or is cut off; with its
            name.
    """
    import numpy as np

    try:
        # Not executed: arrays of objects, which are pickled, are refused.
        with pathlib.Path(path).open("rb") as file:
            read = np.load(file, allow_pickle=False)
            return {ONE: read} if isinstance(read, np.ndarray) else dict(read)
    except (
        EOFError,
        OSError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
