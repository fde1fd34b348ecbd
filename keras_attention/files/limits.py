"""What a file may claim, compared with the bytes that it has.

A file of some kilobytes can say that it holds gigabytes: in the header of an
array, in the table of an archive, in the shape of a data set. All readers of
this package compare the claim with the file before they allocate anything.
"""

import os
import pathlib

# Below it, nothing is refused for its size.
SMALL = 256 * 1024 * 1024
# How far deflate and gzip shrink what real files hold; blank data reach 1,000.
MAX_RATIO = 200


def check_claim(
    origin: str | os.PathLike, claimed: int, stored: int, what: str = "file"
) -> None:
    """Refuse what claims to be far more than it stores.

    Args:
        origin: Name of the file, for the message.
        claimed: Bytes that would be allocated.
        stored: Bytes that the file has.
        what: What makes the claim, for the message.

    Raises:
        ValueError: If the claim is above 256 MiB and above 200 times what is
            stored.
    """
    if claimed > SMALL and claimed > MAX_RATIO * stored:
        raise ValueError(
            f"{origin}: The {what} claims {claimed:,} bytes and stores "
            f"{stored:,}. Nothing was read: ask for a file that stores what "
            "it claims"
        )


def file_size(path: str | os.PathLike) -> int:
    """Return the size of a file in bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the path is not of a regular file, such as a folder or
            a pipe, which would never end.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no such file: {path}")
    if not path.is_file():
        raise ValueError(f"{path}: Must be a file, not a folder or a device")
    return path.stat().st_size
