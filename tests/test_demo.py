import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from keras_attention.cli import cli
from keras_attention.datasets import UNLABELED
from keras_attention.demo import artifacts
from keras_attention.demo import training
from keras_attention.demo.data import Batches
from keras_attention.demo.data import Images
from keras_attention.demo.data import draw_labeled
from keras_attention.demo.data import load_images
from keras_attention.demo.report import conclusion
from keras_attention.demo.report import difference
from keras_attention.demo.report import interval
from keras_attention.demo.report import table
from keras_attention.demo.settings import ALONE
from keras_attention.demo.settings import BOTH
from keras_attention.demo.settings import FAST
from keras_attention.demo.settings import ROWS
from keras_attention.demo.settings import SETTINGS
from keras_attention.demo.teacher_outputs import add_teacher_outputs
from keras_attention.demo.training import Row
from keras_attention.demo.training import make_batches
from keras_attention.demo.training import make_student
from keras_attention.demo.training import make_trainer
from keras_attention.models import WideResNet

pytestmark = pytest.mark.tensorflow


def run(*arguments):
    return CliRunner().invoke(cli, ["demo", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run("--fast", "--out", out)


@pytest.mark.slow
def test_the_demo_from_end_to_end(finished):
    out, result = finished
    assert result.exit_code == 0, result.output
    for name in ROWS:
        rows = re.findall(rf"^{re.escape(name)} +\d.*±", result.output, re.M)
        assert len(rows) == 2, name
    differences = re.findall(
        r"largest difference.*?([\d.]+e[-+]\d+)", result.output, re.S
    )
    assert len(differences) == 2
    assert all(float(value) < 1e-5 for value in differences)
    listed = re.search("Written:(.*)Try:", result.output, re.S)[1].split()
    assert {str(path) for path in out.iterdir()} == set(listed)
    assert set(listed) == {str(out / name) for name in artifacts.NAMES}


def test_long_trainings_say_how_far_they_are(monkeypatch):
    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    said = []

    class Pairs(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.ones((4, 2)), np.ones((4, 1))

    training.fit(model, Pairs(), training.Progress("a student", said.append))
    assert [line.split(",")[0] for line in said] == [
        f"  a student: step {n} of 3" for n in (1, 2, 3)
    ]
    assert all(re.search(r", loss [\d.]+$", line) for line in said)


@pytest.mark.slow
def test_images_are_written_for_the_commands(finished):
    out, _ = finished
    labeled, others, measured = (
        sorted(path.relative_to(out / name) for path in files)
        for name, files in (
            (name, (out / name).rglob("*.png"))
            for name in ("labeled", "unlabeled", "images")
        )
    )
    names = [str(n) for n in range(10)]
    assert [path.parent.name for path in labeled] == sorted(2 * names)
    assert len(others) == 1797 - 450 - 447 - 20
    assert [path.parent.name for path in measured] == sorted(20 * names)


def test_an_earlier_run_s_images_are_replaced_and_others_kept(tmp_path):
    folder = tmp_path / "labeled"
    for name in ("cat/0.png", "1/7.png", "1/my own.png", "2/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    x = np.full((6, 8, 8, 1), 0.5, "float32")
    y = np.array([0, 1, 0, 1, 1, 0])
    setting = dataclasses.replace(FAST, labels_per_class=1)
    images = Images((x, y), (x, y), ["0", "1"])
    artifacts.write_images(images, setting, tmp_path)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [str(path.relative_to(folder)) for path in files] == [
        *("0/0.png", "1/0.png", "1/my own.png", "2/notes.txt"),
    ]
    assert not (folder / "cat").exists()
    assert len(list((tmp_path / "unlabeled").iterdir())) == 4


@pytest.mark.slow
def test_the_figure_is_not_empty(finished):
    out, _ = finished
    figure = np.asarray(Image.open(out / "attention_maps.png").convert("L"))
    assert min(figure.shape) > 400
    assert figure.std() > 20


@pytest.mark.slow
def test_the_commands_it_prints_run(finished):
    out, result = finished
    text = result.output.split("Try:")[1].replace("\\\n", " ")
    commands = re.findall(r"^ *keras-attention (.*)$", text, re.M)
    assert [command.split()[0] for command in commands] == [
        *("predict", "maps", "view", "export", "transfer"),
    ]
    for command in commands:
        command = command.replace("--epochs 15", "--epochs 1")
        result = CliRunner().invoke(cli, command.split())
        assert result.exit_code == 0, (command, result.output)
    assert "curl" in text and "tensorflow/serving" in text
    request = json.loads((out / "request.json").read_text())
    assert np.shape(request["instances"])[1:] == (8, 8, 1)


@pytest.mark.slow
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
        (["--seeds", 0], "--seeds 0"),
        (["--steps", 0], "--steps 0"),
        (["--labels", 0], "--labels 0"),
        (["--labels", 1000], "--labels 1000"),
        (["--dataset", "mnist"], "fashion-mnist"),
        (["--dataset", "cifar10", "--data", tmp_path / "no"], "no"),
        (["--data", "x"], "takes no path"),
    ):
        result = run("--out", tmp_path / "out", *arguments)
        assert result.exit_code in (1, 2), arguments
        assert words in result.output
        assert "Traceback" not in result.output


def test_backends_that_do_not_export_are_refused_before_training(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    result = run("--fast", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "KERAS_BACKEND=tensorflow" in result.output
    assert not (tmp_path / "out").exists()


def test_help_has_the_expected_table_of_each_data_set():
    text = run("--help").output
    for name in SETTINGS:
        assert re.search(rf"^ +{name}, \d+\s+\d", text, re.M), name


def images(count=40, size=8):
    generator = np.random.default_rng(0)
    x = generator.random((count, size, size, 1), "float32")
    y = np.arange(count) % 2
    return Images((x, y), (x[:8], y[:8]), ["even", "odd"])


def test_batches_are_the_same_for_every_row():
    x, y = images().training
    setting = dataclasses.replace(FAST, shift=2, flip=True)
    one, same, other = (
        Batches((x, y), 6, 20, setting, seed) for seed in (3, 3, 4)
    )
    assert len(one) == 20
    for n in (7, 0, 19):
        np.testing.assert_array_equal(one[n][0], same[n][0])
        np.testing.assert_array_equal(one[n][1], same[n][1])
    assert any(np.any(one[n][1] != other[n][1]) for n in range(20))


def test_every_pass_takes_each_image_once():
    x, y = images(30).training
    setting = dataclasses.replace(FAST, shift=0)
    batches = Batches((x, np.arange(30)), 5, 12, setting, seed=0)
    drawn = np.concatenate([batches[n][1] for n in range(12)])
    for each in (drawn[:30], drawn[30:]):
        assert sorted(each) == list(range(30))
    for n in (0, 11):
        np.testing.assert_array_equal(batches[n][0], x[batches[n][1]])


def test_augmentation_moves_and_mirrors():
    x = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
    setting = dataclasses.replace(FAST, shift=1, flip=True)
    batches = Batches((x, np.zeros(1, int)), 1, 200, setting, seed=0)
    seen = {batches[n][0][0, 2, 2, 0].item() for n in range(200)}
    assert seen == {6, 7, 8, 11, 12, 13, 16, 17, 18}  # The nine in the middle.
    found = [batches[n][0][0, :, :, 0] for n in range(200)]
    mirrored = sum(image[2, 1] > image[2, 2] for image in found)
    assert 60 < mirrored < 140


def test_half_of_a_batch_has_no_labels():
    x, y = images().training
    chosen, others = draw_labeled(y, 3, seed=5)
    assert sorted(y[chosen]) == [0, 0, 0, 1, 1, 1]
    assert sorted([*chosen, *others]) == list(range(40))
    batches = Batches((x, y), 8, 4, FAST, 0, chosen, others)
    _, labels = batches[2]
    assert (labels == UNLABELED).tolist() == [False] * 4 + [True] * 4
    numbers = batches.draws[..., 0]
    assert set(numbers[:, :4].flat) <= set(chosen)
    assert set(numbers[:, 4:].flat) <= set(others)


def test_the_validation_images_are_no_training_images():
    setting = SETTINGS["digits"]
    on_test = load_images("digits", None, setting, validation=False)
    held_out = load_images("digits", None, setting, validation=True)
    np.testing.assert_array_equal(on_test.training[0], held_out.training[0])
    assert len(on_test.training[0]) == 900
    assert len(on_test.evaluation[0]) == 450
    assert len(held_out.evaluation[0]) == 447
    assert on_test.training[0].shape[1:] == (16, 16, 1)
    known = {x.tobytes() for x in held_out.training[0]}
    same = sum(x.tobytes() in known for x in held_out.evaluation[0])
    assert same == 0


@pytest.mark.slow
def test_every_row_starts_from_the_same_weights(monkeypatch):
    """Without an update, the students of a seed remain equal."""
    monkeypatch.setattr(keras.optimizers.Adam, "apply", no_update)
    data = images()
    teacher = WideResNet(10, 1, input_shape=(8, 8, 1), classes=2)
    initial, other = (
        make_student(data, FAST, seed).get_weights() for seed in (0, 1)
    )
    batches = make_batches(data, FAST, 0, False)
    found = []
    for name in (ALONE, BOTH):
        trainer = make_trainer(ROWS[name], teacher, data, FAST)
        _, weights = trainer.train(initial, batches, data)
        found.append(weights)
    for one, same in zip(*found, strict=True):
        np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(found[0][0], initial[0])
    assert np.any(initial[0] != other[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The teacher is no better")
def test_the_teacher_sees_each_augmented_image_once(monkeypatch):
    """Its outputs train as the teacher in every step does."""
    # Adam makes a whole step of a gradient that is nothing but rounding.
    setting = dataclasses.replace(
        FAST, shift=1, flip=True, steps=5, optimizer="sgd", learning_rate=0.1
    )
    data = images(10)
    teacher = WideResNet(10, 1, input_shape=(8, 8, 1), classes=2)
    initial = make_student(data, setting).get_weights()
    trainer = make_trainer(ROWS[BOTH], teacher, data, setting)
    trainings = [
        make_batches(data, setting, 0, unlabeled) for unlabeled in (False, True)
    ]
    seen = []
    augment = Batches.augment
    monkeypatch.setattr(
        Batches,
        "augment",
        lambda self, draws: (seen.append(len(draws)), augment(self, draws))[1],
    )
    joined = add_teacher_outputs(trainer.model, trainings)
    draws = np.concatenate([each.draws for each in trainings]).reshape(-1, 4)
    assert sum(seen) == len(np.unique(draws, axis=0)) < len(draws)
    for batches, with_outputs in zip(trainings, joined, strict=True):
        found = [
            trainer.train(initial, each, data)[1]
            for each in (batches, with_outputs)
        ]
        for one, same in zip(*found, strict=True):
            np.testing.assert_allclose(one, same, atol=1e-4)


@pytest.mark.slow
def test_a_student_trained_with_sgd_and_weight_decay():
    setting = dataclasses.replace(
        FAST, seeds=1, optimizer="sgd", learning_rate=0.1, weight_decay=5e-5
    )
    data = images()
    trainer = make_trainer(None, None, data, setting)
    initial = make_student(data, setting).get_weights()
    trainer.train(initial, make_batches(data, setting, 0, False), data)
    optimizer = trainer.model.optimizer
    assert isinstance(optimizer, keras.optimizers.SGD) and optimizer.nesterov
    kernel = trainer.student.get_layer("stem_conv").kernel
    assert np.any(kernel != initial[0])
    added = sum(float(keras.ops.sum(v**2)) for v in kernels(trainer.student))
    np.testing.assert_allclose(
        sum(map(float, trainer.student.losses)), 2.5e-5 * added, rtol=1e-5
    )


def kernels(model):
    return [v for v in model.trainable_variables if v.name == "kernel"]


@pytest.mark.slow
def test_a_seed_does_not_depend_on_the_seeds_before():
    data = images()
    initial, other = (
        make_student(data, FAST, seed).get_weights() for seed in (0, 1)
    )
    batches = make_batches(data, FAST, 0, False)
    trainer = make_trainer(None, None, data, FAST)
    _, first = trainer.train(initial, batches, data)
    trainer.train(other, batches, data)
    _, again = trainer.train(initial, batches, data)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_allclose(one, same, atol=1e-6)
    assert np.any(first[0] != initial[0])


def no_update(self, gradients, variables=None):
    self.iterations.assign_add(1)


def test_intervals_are_those_of_student():
    values = [81.0, 79.5, 84.0, 80.0, 82.25]
    mean, half = interval(values)
    low, high = stats.t.interval(
        0.95, 4, loc=np.mean(values), scale=stats.sem(values)
    )
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    # By hand: mean 2, standard deviation 1, quantile 4.3027 of 2 degrees.
    np.testing.assert_allclose(
        interval([1, 2, 3]), (2, 4.302652729911275 / 3**0.5)
    )
    assert np.isnan(interval([5.0])[1])


def rows(**accuracies):
    return [Row(name, each) for name, each in accuracies.items()]


def test_the_table_compares_with_the_first_row_by_seed():
    alone, other = rows(alone=[70.0, 80.0, 90.0], other=[72.0, 81.0, 93.0])
    gain, half = difference(other, alone)
    assert gain == 2 and half == pytest.approx(4.302652729911275 / 3**0.5)
    lines = table("Title", [alone, other]).splitlines()
    assert lines[0] == "Title"
    assert lines[2].split() == [
        *("alone", "80.0", "±", "24.8", "70.0", "80.0", "90.0"),
    ]
    assert lines[3].split() == [
        *("other", "82.0", "±", "26.2", "+2.0", "±", "2.5"),
        *("72.0", "81.0", "93.0"),
    ]


def test_the_conclusion_follows_from_the_intervals():
    found = conclusion(
        rows(
            alone=[70.0, 80.0, 90.0],
            up=[75.0, 85.1, 95.0],
            more=[76.0, 86.1, 96.0],
            same=[71.0, 79.0, 90.0],
            down=[60.0, 70.1, 80.0],
        )
    )
    assert "up and more are above the student alone" in found
    assert "down is below the student alone" in found
    assert "same is level with the student alone" in found
    assert "Highest mean: more" in found
    assert "down less up: -15.0 ± 0.0" in found
    assert "--seeds" in conclusion(rows(alone=[1.0], other=[2.0]))
