"""Every Python snippet of the README runs, in its order, in one session."""

import contextlib
import pathlib
import re

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_attention.cli import cli
from keras_attention.serving import client
from serving.server_process import ServerProcess

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
        with contextlib.ExitStack() as stack:
            if "ServingClient" in code:
                models = {"student": tmp_path / "exported" / "student"}
                server = ServerProcess(tmp_path, models)
                monkeypatch.setattr(client, "PORTS", server.ports)
                stack.enter_context(server)
            exec(compile(code, "README.md", "exec"), names)
    digit = np.arange(64, dtype="uint8").reshape(8, 8)
    Image.fromarray(digit).save("digit.png")
    commands = text.split("## Serve")[1].replace("\\\n", " ")
    commands = re.findall(r"^keras-attention (.*)$", commands, re.M)
    assert len(commands) == 3
    for command in commands:
        result = CliRunner().invoke(cli, command.split())
        wanting = "needs the package" in result.output and "onnx" in command
        assert result.exit_code == 0 or wanting, result.output


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
