"""Opens zip archives whose table of contents is plausible."""

import contextlib
import os
import stat
import zipfile
from collections.abc import Iterator

from keras_attention.files.limits import check_claim
from keras_attention.files.limits import file_size

MAX_MEMBERS = 100_000
# What zipfile raises for archives that are cut off or changed.
DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
    ValueError,
)


@contextlib.contextmanager
def open_archive(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading, once its table is found plausible.

    Args:
        path: The archive.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a zip archive, is damaged, or has a member that
            is a link, is encrypted, occurs twice, points out of the archive,
            or claims far more than the archive stores.
    """
    size = file_size(path)
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise ValueError(
            f"{path} cannot be read: it is not a complete zip archive: "
            f"{_line(error)}"
        ) from error
    with archive:
        _check_members(path, archive.infolist(), size)
        yield archive


def read_member(
    archive: zipfile.ZipFile, name: str, max_bytes: int | None = None
) -> bytes:
    """Return the contents of a member.

    Args:
        archive: Of `open_archive`.
        name: Of the member.
        max_bytes: The largest size that is read. Defaults to `None`, any.

    Raises:
        ValueError: If the member is damaged or too large.
    """
    origin = f"{archive.filename}/{name}"
    claimed = archive.getinfo(name).file_size
    if max_bytes is not None and claimed > max_bytes:
        raise ValueError(
            f"{origin}: Must have at most {max_bytes:,} bytes. Received: "
            f"{claimed:,} bytes"
        )
    try:
        return archive.read(name)
    except (*DAMAGE, zipfile.zlib.error) as error:
        raise ValueError(
            f"{origin} cannot be read: it is damaged: {_line(error)}"
        ) from error


def _check_members(path, members, size):
    if len(members) > MAX_MEMBERS:
        raise ValueError(
            f"{path}: An archive may have {MAX_MEMBERS:,} members. Received: "
            f"{len(members):,}"
        )
    names = set()
    for member in members:
        name = member.filename
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            reason = "points out of the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            reason = "is a link"
        elif member.flag_bits & 1:
            reason = "is encrypted"
        elif name in names:
            reason = "occurs twice"
        elif member.header_offset < 0 or member.compress_size > size:
            reason = "is larger than the archive"
        else:
            names.add(name)
            continue
        raise ValueError(
            f"{path}: The member {name!r} {reason}. Nothing was read"
        )
    total = sum(member.file_size for member in members)
    check_claim(path, total, size, "archive")


def _line(error):
    return str(error).strip().split("\n")[0] or type(error).__name__
