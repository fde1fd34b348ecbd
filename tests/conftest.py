"""What every test starts with."""

import zlib

import pytest

from support.seeds import seed_keras


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Draw the same weights in every run, and others in every test."""
    seed_keras(zlib.crc32(item.nodeid.encode()))
