import json

import pytest
from click.testing import CliRunner

from keras_attention.cli import cli
from support.examples import load_example

TEXT = "\n".join(
    ["a dog barks .", "dogs bark .", "the dog barks .", "the dogs bark ."] * 4
)
PAIRS = [
    ("the dog barks .", "the dog bark .", "near"),
    ("the dogs bark .", "the dogs barks .", "near"),
    ("the cat barks .", "the cat bark .", "far"),  # "cat" is unknown
]


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_smallest_setting(monkeypatch, tmp_path, capsys):
    example = load_example(monkeypatch, "score_blimp")
    (tmp_path / "text").write_text(TEXT)
    for name in ("near", "far"):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(
                json.dumps({"sentence_good": g, "sentence_bad": b, "UID": uid})
                + "\n"
                for g, b, uid in PAIRS
                if uid == name
            )
        )
    arguments = ["--blimp", str(tmp_path), "--text", str(tmp_path / "text")]
    arguments += ["--epochs", "1", "--width", "8", "--verbose", "0"]
    out = tmp_path / "out"
    # The second run trains another model, and scores it anew.
    for _ in range(2):
        example.main([*arguments, "--out", str(out)])
    shown = capsys.readouterr().out
    kept, skipped = shown.split("items with unknown words: ")[-2:]
    assert "of 3)" in kept and "paradigm far " in kept
    assert "of 2)" in skipped and "left out: 1" in skipped
    total = next(x for x in skipped.splitlines() if x.startswith("all "))

    # What it wrote is what the command line takes.
    files = ["--model", out / "model.keras"]
    files += ["--tokenizer", out / "vocabulary.txt"]
    result = CliRunner().invoke(
        cli,
        ["evaluate", "--suite", "blimp", "--data", str(tmp_path)]
        + [str(f) for f in files]
        + ["--unknown", "skip"],
    )
    assert result.exit_code == 0, result.output
    assert total.split()[1] in result.output
    assert "1 left out for unknown words" in result.output
