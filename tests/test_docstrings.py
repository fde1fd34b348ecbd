"""The example of every public docstring runs and prints what it says."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_attention

PRIVATE = (
    "keras_attention.cli",
    "keras_attention.__main__",
    "keras_attention.commands.evaluate",
)


# Each is imported by its backend alone.
NEEDS = {
    "keras_attention.ops.attention.cudnn_attention": "jax",
    "keras_attention.ops.attention.torch_attention": "torch",
}


def modules():
    found = pkgutil.walk_packages(keras_attention.__path__, "keras_attention.")
    return [m.name for m in found if m.name not in PRIVATE]


def examples(module_name):
    module = importlib.import_module(module_name)
    names = {"keras": keras, "np": np, "keras_attention": keras_attention}
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        test for test in finder.find(module, extraglobs=names) if test.examples
    ]


@pytest.mark.slow
@pytest.mark.parametrize("module_name", modules())
def test_examples(module_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if module_name in NEEDS:
        extra = NEEDS[module_name]
        pytest.importorskip(extra, reason=f"needs the extra {extra}")
    for test in examples(module_name):
        report = []
        runner = doctest.DocTestRunner(
            optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        )
        runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)


@pytest.mark.parametrize(
    "name", [n for n in vars(keras_attention) if n[0].isupper()]
)
def test_public_classes_have_an_example(name):
    documentation = inspect.getdoc(getattr(keras_attention, name))
    assert documentation and ">>>" in documentation


def test_no_stray_modules():
    root = pathlib.Path(keras_attention.__file__).parent
    for folder in {path.parent for path in root.rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder
