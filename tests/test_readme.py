"""Every Python snippet of the README runs, in its order, in one session."""

import pathlib
import re

import matplotlib
import pytest

ROOT = pathlib.Path(__file__).parent.parent

pytestmark = pytest.mark.tensorflow


def test_snippets_run(tmp_path, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    snippets = list(re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M))
    assert len(snippets) >= 4
    names = {}
    for snippet in snippets:
        line = text[: snippet.start(1)].count("\n")
        code = "\n" * line + snippet.group(1)
        exec(compile(code, "README.md", "exec"), names)


def test_every_mechanism_of_the_table_exists():
    import keras_attention

    text = (ROOT / "README.md").read_text()
    table = text.split("## Mechanisms")[1].split("##")[0]
    named = set(re.findall(r"`(\w+)`", table))
    missing = {name for name in named if not hasattr(keras_attention, name)}
    assert not missing
    public = {
        name
        for name, value in vars(keras_attention.layers).items()
        if isinstance(value, type)
    }
    assert public <= named
