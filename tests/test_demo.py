import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_attention import demo
from keras_attention.cli import cli

pytestmark = pytest.mark.tensorflow


def run(*arguments):
    return CliRunner().invoke(cli, ["demo", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run("--fast", "--seeds", 1, "--out", out)


def test_whole_demo(finished):
    out, result = finished
    assert result.exit_code == 0, result.output
    for name in ("teacher", "student alone", "student + transfer"):
        assert re.search(rf"^{re.escape(name)} +[\d,]+ ", result.output, re.M)
    differences = re.findall(
        r"largest difference.*?([\d.]+e[-+]\d+)", result.output, re.S
    )
    assert len(differences) == 2
    assert all(float(value) < 1e-5 for value in differences)
    assert "tensorflow/serving" in result.output
    assert "curl" in result.output
    listed = result.output.split("Written:")[1].split()
    assert listed == [
        str(out / name)
        for name in ("student.keras", "1", "request.json", "attention_maps.png")
    ]
    assert {str(path) for path in out.iterdir()} == set(listed)


def test_picture_shows_something(finished):
    out, _ = finished
    picture = np.asarray(Image.open(out / "attention_maps.png").convert("L"))
    assert min(picture.shape) > 400
    assert picture.std() > 20


def test_earlier_results_are_kept_unless_asked(finished):
    out, _ = finished
    before = (out / "student.keras").read_bytes()
    result = run("--fast", "--out", out)
    assert result.exit_code == 1
    assert "--overwrite" in result.output
    assert (out / "student.keras").read_bytes() == before


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    result = run("--fast", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "Error" in result.output and "Traceback" not in result.output


def test_bad_arguments_are_one_line(tmp_path):
    for arguments, words in (
        (["--seeds", 0], "seeds=0"),
        (["--epochs", 0], "epochs=0"),
        (["--dataset", "mnist"], "fashion-mnist"),
        (["--dataset", "cifar10", "--data", tmp_path / "no"], "no"),
        (["--data", "x"], "takes no path"),
    ):
        result = run("--out", tmp_path / "out", *arguments)
        assert result.exit_code in (1, 2)
        assert words in result.output
        assert "Traceback" not in result.output


def test_table_gives_mean_and_spread():
    class Model:
        def __init__(self, count):
            self.count = count

        def count_params(self):
            return self.count

    models = {"teacher": Model(1234), "student alone": Model(56)}
    rounds = [
        (models, {"teacher": 0.9, "student alone": 0.5}),
        (models, {"teacher": 0.8, "student alone": 0.75}),
    ]
    lines = demo.table(rounds).splitlines()
    assert lines[1].split() == [
        "teacher",
        "1,234",
        "85.00",
        "10.00",
        "90.00,",
        "80.00",
    ]
    assert lines[2].split()[2:] == ["56", "62.50", "25.00", "50.00,", "75.00"]
