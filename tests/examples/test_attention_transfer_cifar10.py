import json

import numpy as np
import pytest

from support.examples import load_example


@pytest.fixture
def example(monkeypatch):
    return load_example(monkeypatch, "attention_transfer_cifar10")


@pytest.fixture
def data(tmp_path):
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 33), ("test", 20)):
        shape = (count, 32, 32, 3)
        arrays[f"x_{part}"] = random.integers(256, size=shape, dtype="uint8")
        arrays[f"y_{part}"] = random.integers(10, size=count)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    return tmp_path / "cifar10.npz"


@pytest.mark.slow
def test_the_smallest_setting(example, data, tmp_path, capsys):
    arguments = ["--data", str(data), "--folder", str(tmp_path / "runs")]
    arguments += ["--epochs", "1", "--subset", "32", "--batch-size", "16"]
    arguments += ["--seeds", "1", "--pairs", "10-1:16-1", "--plain"]
    example.main(arguments)
    shown = capsys.readouterr().out
    assert "| WRN-10-1 ← WRN-16-1 | ours |" in shown
    file = tmp_path / "runs" / "runs.jsonl"
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(runs) == 5
    assert {run["key"].split(",")[1] for run in runs} == {
        " student",
        " AT F_sum²",
        " KD",
        " AT+KD F_sum²",
    }
    # A second time nothing is trained; the maps' table needs three more.
    tables = example.main([*arguments, "--maps"])
    again = capsys.readouterr().out
    assert shown.split("Errors")[1].split("Training")[0].strip() in again
    assert again.count(" minutes") == 3
    assert "| ours |" in again.split("by map function")[1]
    assert "min, 5 runs" in shown and "min, 8 runs" in again
    assert [len(rows) for rows in tables.values()] == [2, 2]


def test_images_of_a_seed_are_the_same_and_are_crops(example):
    random = np.random.default_rng(1)
    images = random.normal(size=(10, 32, 32, 3)).astype("float32")
    first, second = (
        example.Augmented(images, np.arange(10), 4, seed=3) for _ in range(2)
    )
    assert first.num_batches == 2
    for batches in (first, second):
        batches.on_epoch_end()
    (x, y), (same, _) = first[1], second[1]
    np.testing.assert_array_equal(x, same)
    assert not np.array_equal(x, first[0][0])
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), "reflect")
    for found, number in zip(x, y, strict=True):
        whole = padded[number]
        crops = [
            whole[top : top + 32, left : left + 32]
            for top in range(9)
            for left in range(9)
        ]
        crops += [crop[:, ::-1] for crop in crops]
        assert any(np.array_equal(found, crop) for crop in crops)


def test_rate_falls_as_in_the_paper(example, data, tmp_path):
    options = ["--data", str(data), "--folder", str(tmp_path / "runs")]
    options = example.parse([*options, "--epochs", "200", "--batch-size", "16"])
    rate = example.Experiment(options).schedule(0.1)
    for epoch, expected in (
        (59, 0.1),
        (61, 0.02),
        (119, 0.02),
        (121, 0.004),
        (161, 0.0008),
    ):
        np.testing.assert_allclose(float(rate(2 * epoch)), expected, rtol=1e-5)
