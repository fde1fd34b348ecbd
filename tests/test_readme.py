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


@pytest.mark.slow
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


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A folder with the files of the demo that the README's commands name."""
    from keras_attention.models import WideResNet

    monkeypatch.chdir(tmp_path)
    for name, depth in (("teacher", 16), ("student", 10), ("alone", 10)):
        network = WideResNet(depth, 1, input_shape=(8, 8, 1), classes=2)
        network.save(f"{name}.keras")
    random = np.random.default_rng(0)
    for name in (
        *(f"labeled/{'34'[n % 2]}/{n}.png" for n in range(8)),
        *(f"unlabeled/{n}.png" for n in range(20)),
        *(f"images/{'34'[n % 2]}/{n}.png" for n in range(8)),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(256, size=(8, 8), dtype="uint8")
        Image.fromarray(pixels).save(path)


@pytest.mark.slow
def test_commands_run_one_after_the_other(newcomer):
    text = (ROOT / "README.md").read_text().split("## On the command line")[1]
    commands = re.findall(
        r"^keras-attention (.*)$", text.replace("\\\n", " "), re.M
    )
    assert [command.split()[0] for command in commands] == [
        *("list", "sites", "insert", "transfer"),
        *("view", "export", "predict", "inspect"),
    ]
    for command in commands:
        result = CliRunner().invoke(cli, command.split())
        assert result.exit_code == 0, (command, result.output)
    written = {path.name for path in pathlib.Path().iterdir()}
    assert written >= {"new.keras", "distilled.keras", "view.html"}
