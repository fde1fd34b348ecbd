"""The files of `examples/serving`, and its commands on the tests' server."""

import json
import pathlib
import re
import subprocess
import sys
import urllib.request

import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from google.protobuf import text_format
from PIL import Image
from tensorflow_serving.config import model_server_config_pb2

import keras_attention as ka
from keras_attention.cli import cli
from serving.server_process import ServerProcess

pytestmark = pytest.mark.tensorflow
FOLDER = pathlib.Path(ka.__file__).parents[1] / "examples" / "serving"


def test_model_config():
    config = text_format.Parse(
        (FOLDER / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert model.name == "student"
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


def test_batching_parameters():
    text = (FOLDER / "batching.config").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = dict(
        re.fullmatch(r"(\w+) { value: (\d+) }", x).groups() for x in lines
    )
    assert set(found) == {
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
    }


def test_compose_file():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert "tensorflow/serving" in service["image"]
    assert service["ports"] == ["8500:8500", "8501:8501"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert set(mounted) == {"./models", "./models.config", "./batching.config"}
    for source, target in mounted.items():
        if source != "./models":
            assert (FOLDER / source).exists()
            assert any(part.endswith(target) for part in service["command"])


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Follow the README: export both versions, serve, ask."""
    folder = tmp_path_factory.mktemp("serving")
    text = (FOLDER / "README.md").read_text()
    pixels = (np.arange(9 * 7 * 3) % 251).reshape(9, 7, 3).astype("uint8")
    Image.fromarray(pixels).save(folder / "cat.png")
    (folder / "cat.png").rename(folder / "cat.jpg")
    expected = []
    for name in ("old", "new"):
        image = keras.Input((9, 7, 3), name="image")
        x = ka.SqueezeExcite(1, name="stage3")(image)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(image, keras.layers.Dense(4, name="class")(x))
        model.save(folder / f"{name}.keras")
        expected.append(np.array(model(pixels[None] / 255.0))[0])
    commands = re.findall(r"^keras-attention (.*\\\n.*)$", text, re.M)
    assert len(commands) == 2
    for command in commands:
        words = command.replace("\\\n", " ").split()
        words[1] = str(folder / words[1])
        words[2] = str(folder / words[2])
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
    config = (FOLDER / "models.config").read_text()
    config = config.replace("/models/student", str(folder / "models/student"))
    with ServerProcess(folder, config) as server:
        yield folder, server, text, expected


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_python_requests(answers, protocol):
    folder, server, text, expected = answers
    assert "python ask.py cat.jpg --protocol rest" in text
    result = subprocess.run(
        [
            *(sys.executable, FOLDER / "ask.py", folder / "cat.jpg"),
            *("--protocol", protocol, "--port", str(server.ports[protocol])),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"version {n}: AVAILABLE " for n in (1, 2)]
    for label, row, line in zip(
        ("stable", "canary"), expected, lines[2:], strict=True
    ):
        start = f"{label}: cat.jpg: class "
        assert line.startswith(start)
        found = json.loads(line.removeprefix(start))
        np.testing.assert_allclose(found, row, atol=1e-3)


def test_curl_requests(answers):
    """The shell makes the request's text; what sends it does not matter."""
    folder, server, text, expected = answers
    request = r"curl localhost:8501(/\S+)(?: -d \\\n  (\".*?[^\\]\"))?\n"
    urls = re.findall(request, text, re.S)
    assert len(urls) == 3
    for path, body in urls:
        data = None
        if body:
            shell = ["bash", "-c", f"printf %s {body}"]
            data = subprocess.run(
                shell, cwd=folder, capture_output=True, check=True
            ).stdout
        url = f"http://127.0.0.1:{server.ports['rest']}{path}"
        with urllib.request.urlopen(url, data) as response:
            answer = json.load(response)
    np.testing.assert_allclose(answer["outputs"], [expected[0]], rtol=1e-4)
