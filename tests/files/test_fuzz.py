"""Some inputs of `make fuzz`, which reads 100,000 of each format."""

import importlib.util
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[1] / "fuzz.py"
spec = importlib.util.spec_from_file_location("fuzz", PATH)
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)
TENSORFLOW = {"graph"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.tensorflow] * (name in TENSORFLOW)
        )
        for name in fuzz.FORMATS
    ],
)
def test_changed_files_are_read_or_refused(name):
    assert fuzz.fuzz(name, 200) > 20
