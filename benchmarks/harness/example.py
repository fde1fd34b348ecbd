"""The examples whose tables are part of the results."""

import contextlib
import importlib
import io
import pathlib
import sys

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


class DataMissing(Exception):
    """What a subject needs is neither here nor downloaded."""


def run_example(name: str, arguments: list[str]) -> tuple[object, str]:
    """Return what an example's `main` returns, and what it prints."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    example = importlib.import_module(name)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        found = example.main(arguments)
    return found, printed.getvalue()
