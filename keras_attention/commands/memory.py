"""Settings of the C library's memory allocation, for the commands."""

import contextlib
import ctypes

# From glibc's malloc.h, and what is set: free memory that is kept in place of
# given back, what is asked for at least, and the size of arrays that are
# outside of that memory (the largest that glibc takes).
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
SETTINGS = {
    TRIM_THRESHOLD: 2**31 - 1,
    TOP_PAD: 64 * 2**20,
    MMAP_THRESHOLD: 32 * 2**20,
}


def keep_free_memory() -> None:
    """Let this process keep the memory that it frees, until it ends.

    glibc gives arrays that are freed back to the system, which has to map and
    clear every page again for the next step of a training. In virtual machines
    this can take as long as the step itself. Another C library is left as it
    is.
    """
    # `AttributeError`: there is no `mallopt`, `TypeError`: there is no `CDLL`
    # of the process.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in SETTINGS.items():
            mallopt(name, value)
