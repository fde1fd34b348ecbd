import json
import re

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_attention as ka
from keras_attention.cli import cli
from support.surgery import image
from support.surgery import small_resnet


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture
def saved(tmp_path):
    small_resnet().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_sites(saved):
    result = run("sites", saved)
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 1 + 10
    result = run("sites", saved, "--kind", "stage")
    assert [row.split()[-1] for row in result.output.splitlines()] == [
        "layer",
        "a_out",
        "b_out",
    ]


def test_layers(saved):
    result = run("layers", saved)
    assert result.exit_code == 0, result.output
    rows = [row.split() for row in result.output.splitlines()]
    assert rows[0] == [
        "layer",
        "type",
        "output",
        "shape",
        "parameters",
        "stage",
    ]
    (end,) = (row for row in rows if row[0] == "b_out")
    assert end[1:] == ["ReLU", "(None,", "8,", "8,", "8)", "0", "2", "(end)"]


def test_layers_as_json(saved):
    result = run("layers", saved, "--json")
    found = {row["path"]: row for row in json.loads(result.output)}
    assert found["b_conv1"] == {
        "path": "b_conv1",
        "type": "Conv2D",
        "shape": [None, 8, 8, 8],
        "parameters": 4 * 8 * 9 + 8,
        "stage": 2,
        "is_stage_end": False,
    }
    assert found["head"]["stage"] is None


def test_sites_and_insert_as_json(saved, tmp_path):
    result = run("sites", saved, "--kind", "stage", "--json")
    found = json.loads(result.output)
    assert [site["name"] for site in found] == ["a_out", "b_out"]
    assert found[0]["kind"] == "stage" and found[0]["shape"][0] is None
    out = tmp_path / "new.keras"
    result = run(
        *("insert", saved, "--attention", "se", "--set", "ratio=2"),
        *("--at", "stage", "--out", out, "--json"),
    )
    report = json.loads(result.output)
    assert [new["name"] for new in report["layers"]] == [
        "a_out_attention",
        "b_out_attention",
    ]
    assert report["out"] == str(out) and out.exists()
    assert report["parameters_after"] > report["parameters_before"]


def test_insert(saved, tmp_path):
    out = tmp_path / "new.keras"
    arguments = ("insert", saved, "--attention", "se", "--set", "ratio=2")
    arguments += ("--at", "residual", "--preserve-outputs", "--out", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "a_norm_attention" in result.output
    assert "2 layers inserted" in result.output
    old, new = map(keras.saving.load_model, (saved, out))
    layer = new.get_layer("b_norm_attention")
    assert isinstance(layer, ka.BlendIn) and layer.layer.ratio == 2
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(model(image())) for model in (old, new))
    )

    before = out.read_bytes()
    again = run(*arguments)
    assert again.exit_code == 1 and "--overwrite" in again.output
    assert out.read_bytes() == before
    assert run(*arguments, "--overwrite").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.keras",
        "new.keras",
    ]


@pytest.mark.parametrize(
    "place, expected",
    [
        ((), ["a_norm", "b_norm"]),
        (("--at", "stage"), ["a_out", "b_out"]),
        (("--layer", "stem", "--layer", "b_add"), ["stem", "b_add"]),
        (("--matching", "^b_.*out$"), ["b_out"]),
    ],
)
def test_insert_says_where(saved, tmp_path, place, expected):
    out = tmp_path / "new.keras"
    result = run(
        *("insert", saved, "--attention", "se", "--set", "ratio=2"),
        *(*place, "--out", out),
    )
    assert result.exit_code == 0, result.output
    found = re.findall(r"(\w+)_attention  ", result.output)
    assert found == expected


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--attention", "squeeze"], "Did you mean"),
        (["--attention", "se", "--set", "ratio=0"], "ratio=0"),
        (["--attention", "se", "--set", "ratio"], "NAME=VALUE"),
        (["--attention", "se", "--set", "ratoi=8"], "Did you mean 'ratio'?"),
        (["--attention", "se", "--layer", "steem"], "Did you mean 'stem'"),
        (["--attention", "SE"], "Did you mean 'se'"),
        (["--attention", "se", "--layer", "steem"], "`--layer` must name"),
        (["--attention", "se", "--matching", "zz"], "Received: --matching zz"),
        (["--attention", "se", "--matching", "("], "regular expression"),
        (["--attention", "se", "--at", "stage", "--layer", "x"], "one of --at"),
        (["--attention", "se", "--import", "no_such_module"], "no_such_module"),
    ],
)
def test_insert_with_bad_arguments(saved, tmp_path, arguments, words):
    result = run("insert", saved, *arguments, "--out", tmp_path / "new.keras")
    assert result.exit_code == 1
    assert words in result.output and "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    for name, words in (("none.keras", "no such"), ("text.keras", "zip file")):
        result = run("sites", tmp_path / name)
        assert result.exit_code == 1 and words in result.output
    out = run(
        *("insert", tmp_path / "text.keras", "--attention", "se"),
        *("--out", tmp_path / "model.h5"),
    )
    assert out.exit_code == 1 and "must end in .keras" in out.output
