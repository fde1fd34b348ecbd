"""What holds for every test.

With the environment variable `PART=1/3`, a run has the second of three parts of
its tests (parts are numbered from 0).
"""

import zlib

import pytest

from support.parts import leave_out
from support.seeds import seed_keras


def pytest_collection_modifyitems(config, items):
    leave_out(config, items, "PART")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Draw the same weights in every run, and others in every test."""
    seed_keras(zlib.crc32(item.nodeid.encode()))
