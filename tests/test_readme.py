"""Every Python snippet of the README runs, in its order, in one session."""

import contextlib
import json
import pathlib
import re

import keras
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


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A folder with the files that the README's commands name."""
    from keras_attention.evaluation import Vocabulary
    from keras_attention.models import WideResNet

    monkeypatch.chdir(tmp_path)
    for name, depth in (("teacher", 16), ("student", 10)):
        network = WideResNet(depth, 1, input_shape=(8, 8, 1), classes=2)
        network.save(f"{name}.keras")
    random = np.random.default_rng(0)
    names = [f"photos/{'cd'[n % 2]}/{n}.png" for n in range(20)]
    for name in [*names, "cat.jpg", "dog.jpg"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(256, size=(8, 8), dtype="uint8")
        Image.fromarray(pixels).save(path)
    pair = {"sentence_good": "dog barks", "sentence_bad": "dog bark"}
    (tmp_path / "blimp").mkdir()
    line = json.dumps({**pair, "UID": "toy"})
    (tmp_path / "blimp" / "toy.jsonl").write_text(line + "\n")
    Vocabulary.from_texts(["dog bark barks"]).save("vocabulary.txt")
    (tmp_path / "sentences.txt").write_text("dog barks\ndog bark\n")


@pytest.mark.slow
def test_commands_run_one_after_the_other(newcomer):
    """Those of serving run with the snippets, after what these export."""
    from keras_attention.models import TransformerLanguageModel

    text = (ROOT / "README.md").read_text().split("## Serve")[0]
    commands = re.findall(
        r"^keras-attention (.*)$", text.replace("\\\n", " "), re.M
    )
    assert [command.split()[0] for command in commands] == [
        *("list", "sites", "insert", "transfer"),
        *("maps", "view", "view", "evaluate"),
    ]
    image_model = keras.applications.MobileNetV2(
        weights=None, input_shape=(64, 64, 3), alpha=0.35
    )
    language_model = TransformerLanguageModel(
        7, width=8, num_blocks=1, num_heads=2, feed_forward_dim=8
    )
    language_model(np.ones((1, 4), "int32"))
    for command in commands:
        reads_words = "--tokenizer" in command
        (language_model if reads_words else image_model).save("model.keras")
        result = CliRunner().invoke(cli, command.split())
        assert result.exit_code == 0, (command, result.output)
    written = {path.name for path in pathlib.Path().iterdir()}
    assert written >= {
        *("new.keras", "distilled.keras", "attention_maps.png"),
        *("attention.html", "sentences.html"),
    }


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
