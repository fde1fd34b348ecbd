"""The examples are scripts: they are loaded by their path."""

import importlib
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parents[2] / "examples"


def load_example(monkeypatch, name):
    """Return the module of an example."""
    # As when it is run: its folder is where its own imports are found.
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)
