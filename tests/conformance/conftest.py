"""Marks the tests of variants, the second and further rows of a layer.

On TensorFlow the longest tests of the table, most of them of variants, are slow
tests, which `make test` leaves to `make test-slow`. What breaks layers on
purpose, `make mutants`, runs them too.

With the environment variable `VARIANTS=1/3`, a run has the second of three
parts of the tests of variants (parts are numbered from 0).
"""

import os
import pathlib
import zlib

import keras
import pytest

from conformance.rows import Row

FOLDER = pathlib.Path(__file__).parent
REBUILT = "test_rebuilt_from_its_configuration_alone"
LONG_FILES = ("test_layers.py", "test_masks.py")
TABLE = keras.backend.backend() == "tensorflow"


def in_part(test: str, part: str) -> bool:
    """Whether a test belongs to a part such as `"1/3"`."""
    number, parts = map(int, part.split("/"))
    if not 0 <= number < parts:
        raise ValueError(
            f"VARIANTS must be a part such as 0/3 or 2/3. Received: {part}"
        )
    return zlib.crc32(test.encode()) % parts == number


def pytest_collection_modifyitems(config, items):
    mark_variants(items)
    part = os.environ.get("VARIANTS", "0/1")
    left_out = [
        item
        for item in items
        if item.get_closest_marker("variant") and not in_part(item.nodeid, part)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def mark_variants(items):
    for item in items:
        if item.path.parent != FOLDER:
            continue
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        is_variant = any(isinstance(x, Row) and x.variant for x in values)
        if is_variant:
            item.add_marker(pytest.mark.variant)
        is_long = (
            item.path.name == "test_saving.py"
            or item.originalname == "test_compiled_training_step"
            or (is_variant and item.path.name in LONG_FILES)
            or (is_variant and item.originalname == REBUILT)
        )
        if TABLE and is_long and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.table)
