import json
import pathlib

import keras
import numpy as np
import pytest

from support.examples import load_example

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch):
    example = load_example(monkeypatch, "few_labels_cifar10")
    monkeypatch.setattr(example, "STUDENT", (10, 1))
    monkeypatch.setattr(example, "TEACHER", (10, 1))
    monkeypatch.setattr(example, "TEACHER_BATCH", 16)
    monkeypatch.setattr(example, "STUDENT_BATCH", 8)
    return example


@pytest.fixture
def arguments(tmp_path):
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 37), ("test", 20)):
        shape = (count, 8, 8, 3)
        arrays[f"x_{part}"] = random.integers(256, size=shape, dtype="uint8")
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    texts = ["--data", str(tmp_path / "cifar10.npz"), "--plain"]
    texts += ["--folder", str(tmp_path / "runs"), "--teacher-epochs", "2"]
    return [*texts, "--images", "1", "--steps", "2", "--seeds", "1"]


def lines_of(arguments):
    path = arguments[arguments.index("--folder") + 1]
    with open(f"{path}/runs.jsonl") as file:
        return [json.loads(line) for line in file]


@pytest.mark.slow
def test_runs_are_logged_and_not_repeated(example, arguments, monkeypatch):
    arguments += ["--methods", "alone", "DKD"]
    rows = example.main(arguments)
    assert [row[0] for row in rows] == ["images per class", "1"]
    assert all("(1 seed)" in text for text in rows[1][2:])
    lines = lines_of(arguments)
    assert [(line["method"], line["teacher"]) for line in lines] == [
        ("teacher", "2 epochs"),
        ("alone", None),
        ("DKD", "2 epochs"),
    ]
    monkeypatch.setattr(keras.Model, "fit", None)  # Nothing is trained again.
    assert example.main(arguments) == rows
    assert lines_of(arguments) == lines


def line(method, count, accuracy, **settings):
    return {
        "method": method,
        "images_per_class": count,
        "steps": 600,
        "teacher": None if method == "alone" else "good",
        "dtype": "float32",
        "accuracy": accuracy,
        **settings,
    }


def test_the_report_has_what_was_found(example, tmp_path, capsys):
    teacher = line("teacher", None, 90.0)
    lines = [
        teacher,
        *(line("AT", 50, x) for x in (66.0, 67.0, 68.0)),
        line("KD", 50, 62.0),
        *(line("AT", 10, x) for x in (40.0, 42.0)),
        line("alone", 10, 28.0),
        # Of another teacher, of another precision, of another length.
        line("AT", 10, 1.0, teacher="bad"),
        line("AT", 10, 2.0, dtype="mixed_bfloat16"),
        line("alone", 10, 20.0, steps=1200),
    ]
    rows = example.report(lines, teacher, tmp_path / "figure.png")
    assert rows == [
        ["images per class", "steps", "alone", "AT", "KD"],
        ["10", "600", "28.0 (1 seed)", "41.0 (2 seeds: 40.0, 42.0)", "–"],
        ["10", "1,200", "20.0 (1 seed)", "–", "–"],
        ["50", "600", "–", "67.0 ± 2.5 (3)", "62.0 (1 seed)"],
    ]
    assert "| 10 | 1,200 | 20.0 (1 seed) | – | – |" in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_teacher_resumes_after_the_last_epoch(
    example, arguments, tmp_path, monkeypatch
):
    arguments += ["--dtype", "float32", "--folder"]
    whole = example.Experiment(
        example.parse([*arguments, str(tmp_path / "whole")])
    )
    whole.train_teacher()

    class Stopped(example.Checkpoint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    resumed = example.Experiment(
        example.parse([*arguments, str(tmp_path / "resumed")])
    )
    with monkeypatch.context() as patch:
        patch.setattr(example, "Checkpoint", Stopped)
        with pytest.raises(KeyboardInterrupt):
            resumed.train_teacher()
    resumed.train_teacher()
    for expected, found in zip(
        whole.teacher.get_weights(), resumed.teacher.get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_given_weights_of_a_teacher_are_used(example, arguments, tmp_path):
    network = example.Experiment(example.parse(arguments)).teacher
    network.save_weights(tmp_path / "mine.weights.h5")
    arguments += ["--teacher", str(tmp_path / "mine.weights.h5")]
    experiment = example.Experiment(example.parse(arguments))
    line = experiment.prepare_teacher()
    assert line["teacher"].startswith("mine.weights.h5 ")
    for expected, found in zip(
        network.get_weights(), experiment.teacher.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_batches_are_crops_of_every_image_in_turn(example):
    random = np.random.default_rng(1)
    images = random.normal(size=(5, 8, 8, 3)).astype("float32")
    labels = np.arange(5)
    first, second = (
        example.Crops(images, labels, 3, 5, seed=3) for _ in range(2)
    )
    assert first.num_batches == 5
    first.on_epoch_end()
    second.start(1)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), "reflect")
    seen = []
    for index in range(5):
        (x, y), (same, _) = first[index], second[index]
        np.testing.assert_array_equal(x, same)
        assert x.shape == (3, 8, 8, 3)
        seen += list(y)
        for found, label in zip(x, y, strict=True):
            crops = [
                padded[label, top : top + 8, left : left + 8]
                for top in range(9)
                for left in range(9)
            ]
            crops += [crop[:, ::-1] for crop in crops]
            assert any(np.array_equal(found, crop) for crop in crops)
    # 15 places for 5 images: three rounds through all of them.
    for start in (0, 5, 10):
        assert sorted(seen[start : start + 5]) == list(range(5))


def test_students_of_a_seed_have_as_many_images_of_each_class(example):
    labels = np.random.default_rng(0).permutation(np.arange(60) % 3)
    chosen = example.choose(labels, 7, seed=5)
    assert np.bincount(labels[chosen]).tolist() == [7, 7, 7]
    assert len(set(chosen)) == 21
    np.testing.assert_array_equal(chosen, example.choose(labels, 7, seed=5))
    assert not np.array_equal(chosen, example.choose(labels, 7, seed=6))


def test_intervals_are_those_of_student(example):
    # By hand: mean 72, deviation 2, 4.30 * 2 / sqrt(3).
    mean, half = example.interval([70.0, 72.0, 74.0])
    assert (mean, round(half, 3)) == (72.0, 4.965)
    assert example.cell([70.0, 72.0, 74.0]) == "72.0 ± 5.0 (3)"
    assert example.cell([70.0, 71.0]) == "70.5 (2 seeds: 70.0, 71.0)"
    assert example.cell([70.0]) == "70.0 (1 seed)"


def test_the_rate_is_one_cycle_with_its_peak_at_a_fifth(example, arguments):
    experiment = example.Experiment(example.parse(arguments))
    model = experiment.network((10, 1), weight_decay=5e-5)
    experiment.compile(model, 100)
    rate = model.optimizer.learning_rate
    rates = [float(model.optimizer._learning_rate(step)) for step in range(101)]
    assert rates[0] == 0.0 and float(rate) == 0.0
    assert np.argmax(rates) == 20
    np.testing.assert_allclose(rates[20], 0.1, rtol=1e-6)
    np.testing.assert_allclose(rates[100], 0.0, atol=1e-9)
    assert np.all(np.diff(rates[:21]) > 0) and np.all(np.diff(rates[20:]) < 0)


def test_the_results_page_has_the_table_of_the_log(example, tmp_path):
    log = example.Log(ROOT / "benchmarks" / "logs" / "few_labels_cifar10.jsonl")
    page = (ROOT / "docs" / "results.md").read_text()
    header = example.__doc__
    teachers = [run for run in log.runs if run["method"] == "teacher"]
    assert teachers
    for teacher in teachers:
        rows = example.report(log.runs, teacher, tmp_path / "figure.png")
        for row in rows:
            assert f"| {' | '.join(row)} |" in page
        for text in [text for row in rows[1:] for text in row]:
            assert text in header or text == "–"


def test_the_results_page_has_the_differences_by_seed(example):
    log = example.Log(ROOT / "benchmarks" / "logs" / "few_labels_cifar10.jsonl")
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    found = {
        (run["method"], run["seed"]): run["accuracy"]
        for run in log.runs
        if "seed" in run
    }
    texts = {
        ("AT", "alone"): "AT is {} points above the labels alone",
        ("KD", "alone"): "points above the labels alone, KD {}",
        ("KD+AT", "alone"): "and KD+AT {}. AT is",
        ("AT", "KD"): "AT is {} above KD",
        ("KD+AT", "KD"): "KD+AT {} above KD",
        ("DKD", "KD"): "not told apart from KD ({})",
    }
    for (method, other), text in texts.items():
        differences = [
            found[method, seed] - found[other, seed]
            for seed in range(5)
            if (method, seed) in found and (other, seed) in found
        ]
        assert len(differences) == 3
        mean, half = example.interval(differences)
        assert text.format(f"{mean:.1f} ± {half:.1f}") in page
