"""Marks the tests of variants, the second and further rows of a layer.

On TensorFlow the longest tests of the table, most of them of variants, are slow
tests, which `make test` leaves to `make test-slow`. What breaks layers on
purpose, `make mutants`, runs them too.
"""

import pathlib

import keras
import pytest

from conformance.rows import Row

FOLDER = pathlib.Path(__file__).parent
REBUILT = "test_rebuilt_from_its_configuration_alone"
LONG_FILES = ("test_layers.py", "test_masks.py")
TABLE = keras.backend.backend() == "tensorflow"


def pytest_collection_modifyitems(items):
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
