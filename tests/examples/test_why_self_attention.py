import json
import types

import pytest

from support.examples import load_example

SMALL = types.SimpleNamespace(width=32, blocks=2, heads=4)
FULL = types.SimpleNamespace(width=64, blocks=3, heads=4)

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def example(monkeypatch):
    return load_example(monkeypatch, "why_self_attention")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SMALL, FULL])
@pytest.mark.parametrize("suite", ["agreement", "senses"])
def test_parameters_are_matched(example, suite, settings):
    size = len(example.grammar_of(suite, 0).vocabulary)
    counts = {
        mixer: example.matched(mixer, size, settings).count_params()
        for mixer in example.MIXERS
    }
    assert max(counts.values()) < 1.01 * min(counts.values()), counts


@pytest.mark.parametrize("settings", [SMALL, FULL])
def test_convolutions_reach_all_distances(example, settings):
    # The longest text of all items: nothing in it may be out of reach.
    longest = max(
        len(text.split())
        for suite in ("agreement", "senses")
        for item in example.items_of(suite, example.grammar_of(suite, 0), 4)
        for text in item.texts
    )
    for mixer in ("lightweight", "dynamic", "convolution"):
        blocks = example.network(mixer, 9, settings, 4).blocks
        reach = sum(block.mixer.kernel_size - 1 for block in blocks)
        assert reach >= longest - 1, mixer


def test_a_log_keeps_what_was_measured(example, tmp_path):
    def refuse():
        raise AssertionError("measured twice")

    path = tmp_path / "log"
    example.Log(path, {"steps": 1}).measure({"seed": 0}, lambda: {"loss": 2})
    again = example.Log(path, {"steps": 1})
    assert again.measure({"seed": 0}, refuse)["loss"] == 2
    assert again.measure({"seed": 1}, lambda: {"loss": 3})["loss"] == 3
    other = example.Log(path, {"steps": 2})
    assert other.measure({"seed": 0}, lambda: {"loss": 4})["loss"] == 4
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.slow
def test_the_smallest_setting(example, tmp_path, capsys):
    arguments = ["--fast", "--seeds", "2", "--steps", "2", "--rates", "0.01"]
    arguments += ["0.02", "--mixers", "attention", "lstm"]
    arguments += ["--out", str(tmp_path)]
    example.main(arguments)
    shown = capsys.readouterr().out
    assert "## agreement" in shown and "## senses" in shown
    for row in ("attention", "lstm", "nearest_noun", "most_frequent_sense"):
        assert f"| {row} | " in shown
    picture = tmp_path / "accuracy_by_distance.png"
    assert picture.stat().st_size > 10_000
    lines = (tmp_path / "trained.jsonl").read_text().splitlines()
    # Two suites and mixers: two rates are tried, two seeds are trained.
    assert len(lines) == 2 * 2 * (2 + 2)
    # The second run takes everything from the first.
    example.main(arguments)
    again = capsys.readouterr().out
    assert len((tmp_path / "trained.jsonl").read_text().splitlines()) == 16
    table = shown[shown.index("##") : shown.index("seeds,")]
    assert table in again
    example.main([*arguments, "--suites", "senses"])
    assert "agreement" not in capsys.readouterr().out
    chosen = {json.loads(line)["what"]["rate"] for line in lines}
    assert chosen == {0.01, 0.02}
