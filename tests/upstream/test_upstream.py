"""docs/upstream.md says what is seen today, and fails when it is mended."""

import pathlib
import re

import keras
import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "upstream.md"
TEXT = PAGE.read_text()
VERSION = re.search(r"seen with Keras ([\d.]+)", TEXT)[1]
ROW = re.compile(
    r"^\| \[[^]]+\]\(#([\w-]+)\) \| (\w+) \| (\S+) \| (\S+) \|$", re.M
)
ROWS = ROW.findall(TEXT)
CODE = re.compile(r"^```py(?:thon)?\n(.*?)^```", re.S | re.M)


def parts(version):
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def section(anchor):
    for text in TEXT.split("\n## ")[1:]:
        if text.splitlines()[0].lower().replace(" ", "-") == anchor:
            return text
    raise ValueError(f"There is no section {anchor}")


def written(value):
    return value if isinstance(value, str) else f"{value:.4f}"


def test_the_page_has_seven_faults():
    assert len(ROWS) == len(TEXT.split("\n## ")[1:]) == 7


@pytest.mark.skipif(
    parts(keras.__version__) < parts(VERSION),
    reason="the page is about a later Keras",
)
@pytest.mark.parametrize(
    "anchor, backend, seen, right", ROWS, ids=[row[0] for row in ROWS]
)
def test_fault(anchor, backend, seen, right, tmp_path, monkeypatch):
    if backend not in ("all", keras.backend.backend()):
        pytest.skip(f"needs the {backend} backend")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(CODE.search(section(anchor))[1], anchor, "exec"), names)
    assert written(names["right"]) == right
    found = written(names["seen"])
    assert found != right, f"It is mended: say so in {PAGE.name}."
    assert found == seen
