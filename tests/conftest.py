"""What holds for every test.

With the environment variable `PART=1/3`, a run has the second of three parts of
its tests (parts are numbered from 0).
"""

import os
import zlib

import pytest

from support.seeds import seed_keras


def pytest_collection_modifyitems(config, items):
    part = os.environ.get("PART", "0/1")
    number, parts = map(int, part.split("/"))
    if not 0 <= number < parts:
        raise pytest.UsageError(
            f"PART must be a part such as 0/3 or 2/3. Received: {part}"
        )
    chosen, left_out = [], []
    for item in items:
        is_in = zlib.crc32(item.nodeid.encode()) % parts == number
        (chosen if is_in else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Draw the same weights in every run, and others in every test."""
    seed_keras(zlib.crc32(item.nodeid.encode()))
