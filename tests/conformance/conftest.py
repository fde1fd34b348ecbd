"""Marks the tests of variants, the second and further rows of a layer."""

import pytest

from conformance.rows import Row


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        if any(isinstance(row, Row) and row.variant for row in values):
            item.add_marker(pytest.mark.variant)
