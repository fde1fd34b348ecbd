import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_attention.cli import cli
from keras_attention.evaluation import Vocabulary
from keras_attention.models import TransformerLanguageModel

PAIRS = [("dog barks", "dog bark"), ("dogs bark", "dogs barks")]


@pytest.fixture
def files(tmp_path):
    vocabulary = Vocabulary.from_texts(["dog", "dogs", "bark", "barks"])
    vocabulary.save(tmp_path / "v.txt")
    # "barks" is more probable after anything than "bark".
    model = keras.Sequential(
        [keras.Input((None,)), keras.layers.Embedding(8, 8)]
    )
    model.layers[0].embeddings.assign(np.tile(np.arange(8.0), (8, 1)))
    model.save(tmp_path / "m.keras")
    lines = [
        json.dumps({"sentence_good": g, "sentence_bad": b, "UID": "toy"})
        for g, b in PAIRS
    ]
    (tmp_path / "toy.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(folder, *arguments, suite="blimp", data="toy.jsonl"):
    return CliRunner().invoke(
        cli,
        ["evaluate", "--suite", suite, "--data", str(folder / data)]
        + [str(a) for a in arguments],
    )


@pytest.mark.tensorflow
def test_a_model_is_scored(files):
    arguments = ["--model", files / "m.keras", "--tokenizer", files / "v.txt"]
    result = run(files, *arguments, "--scores", files / "s")
    assert result.exit_code == 0, result.output
    assert "50.0% [9.5, 90.5] (1 of 2)" in result.output
    assert "paradigm toy" in result.output
    assert len((files / "s").read_text().splitlines()) == 4
    judged = run(files, "--scores", files / "s")
    assert "(1 of 2)" in judged.output
    # As costs the same scores say the opposite.
    judged = run(files, "--scores", files / "s", "--costs", "--by", "UID")
    assert judged.exit_code == 1 and "Did you mean" not in judged.output
    assert "'paradigm'" in judged.output
    written = json.loads(run(files, *arguments, "--json").output)
    assert written == {
        "items": 2,
        "left_out": 0,
        "all": {"accuracy": 0.5, "correct": 1, "total": 2},
        "by": {
            "paradigm": {"toy": {"accuracy": 0.5, "correct": 1, "total": 2}}
        },
    }
    limited = run(files, *arguments, "--limit", 1)
    assert "1 items" in limited.output and "(1 of 1)" in limited.output


MIXER = """import keras


@keras.saving.register_keras_serializable(package="mine")
class Before(keras.layers.Layer):
    def call(self, x):
        return keras.ops.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
"""


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_language_model_with_a_mixer_of_the_users(files):
    """As typed, in a process that knows nothing of the model."""
    (files / "mine.py").write_text(MIXER)
    scope = {}
    exec(MIXER, scope)
    model = TransformerLanguageModel(8, scope["Before"], 16, 1, 4)
    model.build((None, None))
    model.save(files / "own.keras")
    command = (
        f"{sys.executable} -m keras_attention evaluate --suite blimp --data "
        "toy.jsonl --model own.keras --tokenizer v.txt --import mine"
    ).split()
    path = os.pathsep.join([str(files), *filter(None, sys.path)])
    done = subprocess.run(
        command,
        cwd=files,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "paradigm toy" in done.stdout and " of 2)" in done.stdout


@pytest.mark.tensorflow
def test_scores_of_another_model_are_refused(files):
    (files / "s").write_text("-3.0\n-3.0\n")
    result = run(
        files,
        *("--model", files / "m.keras", "--tokenizer", files / "v.txt"),
        *("--scores", files / "s"),
    )
    assert result.exit_code == 1
    assert "s:1: " in result.output and "another model" in result.output


def test_a_model_that_is_not_there(files):
    result = run(files, "--model", files / "x", "--tokenizer", files / "v.txt")
    assert result.exit_code == 1 and "no such model" in result.output


@pytest.mark.tensorflow
def test_unknown_words_are_reported(files):
    with (files / "toy.jsonl").open("a") as stream:
        stream.write(
            '{"sentence_good": "cats bark", "sentence_bad": "x", "UID": "toy"}'
        )
    arguments = ["--model", files / "m.keras", "--tokenizer", files / "v.txt"]
    result = run(files, *arguments)
    assert result.exit_code == 1
    assert "toy.jsonl:3" in result.output and "'cats'" in result.output
    result = run(files, *arguments, "--unknown", "skip")
    assert "3 items, 1 left out for unknown words" in result.output
    assert "2 words are unknown to the tokenizer, among them: cats" in (
        result.output
    )


def test_scores_of_another_system(files):
    suite = [
        {
            "source": "a",
            "reference": "b",
            "errors": [
                {"type": "compound", "contrastive": "c", "distance": 20},
                {"type": "compound", "contrastive": "d", "distance": 1},
            ],
        }
    ]
    (files / "l.json").write_text(json.dumps(suite))
    (files / "costs").write_text("1.0\n2.0\n0.5\n")
    result = run(
        files,
        *("--scores", files / "costs", "--costs"),
        suite="lingeval97",
        data="l.json",
    )
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "distance 1 0.0% [0.0, 79.3] (0 of 1)" in lines
    assert "distance >15 100.0% [20.7, 100.0] (1 of 1)" in lines


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Give --model and --tokenizer, or --scores"),
        (["--model", "m.keras"], "needs --tokenizer"),
    ],
)
def test_missing_options(files, arguments, message):
    result = run(files, *arguments)
    assert result.exit_code == 2 and message in result.output


def test_a_translation_suite_needs_two_tokenizers(files):
    (files / "l.json").write_text(
        '[{"source": "a", "reference": "b", "errors": []}]'
    )
    result = run(
        files,
        *("--model", "m", "--tokenizer", "t"),
        suite="lingeval97",
        data="l.json",
    )
    assert result.exit_code == 2 and "--source-tokenizer" in result.output


def test_other_line_counts(files):
    (files / "s").write_text("1\n2\n3\n")
    result = run(files, "--scores", files / "s")
    assert result.exit_code == 1 and "with 3 lines" in result.output
