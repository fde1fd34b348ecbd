import pytest

from oldest import PYPROJECT
from oldest import oldest


def test_every_requirement_has_a_lowest_version():
    found = oldest(PYPROJECT.read_text())
    assert {"keras", "numpy", "tensorflow-cpu", "jax", "torch"} <= set(found)


def test_the_lowest_of_several_counts():
    text = """
[project]
name = "ours"
dependencies = ["keras>=3.12", "numpy>=1.26"]
[project.optional-dependencies]
one = ["keras-cv==0.9.*", "torch>=2.8", "numpy>=1.9"]
two = ["torch==2.13.0", "ours[one]"]
"""
    assert oldest(text) == {
        "keras": "3.12",
        "numpy": "1.9",
        "keras-cv": "0.9",
        "torch": "2.8",
    }
    with pytest.raises(ValueError, match="Received: pillow"):
        oldest(text.replace('"numpy>=1.26"', '"pillow"'))
    with pytest.raises(ValueError, match="Received: pillow<11"):
        oldest(text.replace("numpy>=1.26", "pillow<11"))
