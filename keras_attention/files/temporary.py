"""Writes a file or folder under a temporary name, and renames it."""

import os
import pathlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def replace_when_written(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a path next to `path` to write to, and rename it at the end.

    So no reader sees half a file, and one that exists is kept on failure.

    Args:
        path: The file that is written or replaced, in a folder that exists.

    Raises:
        OSError: If it cannot be written; it names `path`.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    with named_in_errors(temporary, path):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def named_in_errors(
    temporary: pathlib.Path, path: pathlib.Path
) -> Iterator[None]:
    """Have errors of the file system name `path`, not the temporary name.

    Args:
        temporary: The file or folder that is written.
        path: The one that it will be.
    """
    try:
        yield
    except OSError as error:
        if temporary.name not in str(error):
            raise
        if error.errno is None or error.strerror is None:
            text = str(error).replace(str(temporary), str(path))
            raise type(error)(text) from error
        # That of h5py has the name in its text alone.
        reason = error.strerror.replace(str(temporary), str(path))
        raise type(error)(error.errno, reason, str(path)) from error
