"""A part of the tests, where all of them would take too long."""

import os
import zlib

import pytest


def leave_out(config, items, name, in_question=lambda item: True):
    """Leave the other parts out of a run.

    Args:
        config: pytest's configuration.
        items: the tests that were collected, of which some are taken out.
        name: the environment variable with the part, such as `1/3`, the
            second of three. Without it all tests are run.
        in_question: which tests are divided; the others are run.
    """
    part = os.environ.get(name, "0/1")
    number, parts = map(int, part.split("/"))
    if not 0 <= number < parts:
        raise pytest.UsageError(
            f"{name} must be a part such as 0/3 or 2/3. Received: {part}"
        )
    left_out = {
        item
        for item in items
        if in_question(item)
        and zlib.crc32(item.nodeid.encode()) % parts != number
    }
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
