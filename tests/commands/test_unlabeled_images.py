"""`keras-attention transfer --unlabeled`."""

import json
import shutil

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_attention.cli import cli
from keras_attention.commands.image_data import ImageFolder
from keras_attention.commands.image_data import ImageFormat
from keras_attention.commands.pixels import given_pixels
from keras_attention.commands.unlabeled_images import LabeledAccuracy
from keras_attention.commands.unlabeled_images import MixedBatches
from keras_attention.commands.unlabeled_images import load_unlabeled
from keras_attention.commands.unlabeled_images import steps_of
from keras_attention.datasets import UNLABELED
from keras_attention.models import WideResNet

pytestmark = pytest.mark.tensorflow
FORM = ImageFormat((5, 7), 1, "channels_last", given_pixels("0,1"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A student, a teacher, six labeled and ten other images."""
    folder = tmp_path_factory.mktemp("unlabeled")
    for name, depth in (("teacher", 16), ("student", 10)):
        network = WideResNet(depth, 1, input_shape=(5, 7, 1), classes=2)
        network.save(folder / f"{name}.keras")
    inputs = keras.Input((5, 7, 1))
    x = keras.layers.Dense(1, "sigmoid")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, x).save(folder / "one_output.keras")
    generator = np.random.default_rng(0)
    for path in (
        *(folder / "labeled" / "ab"[n % 2] / f"{n}.png" for n in range(6)),
        *(folder / "others" / "any" / f"{n}.png" for n in range(7)),
        *(folder / "others" / f"{n}.png" for n in range(3)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = generator.integers(256, size=(5, 7, 1))
        keras.utils.save_img(path, image, scale=False)
    (folder / "empty").mkdir()
    x = generator.integers(256, size=(4, 5, 7, 1), dtype="uint8")
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "y.npz", y=x)
    return folder


def run(files, *arguments, student="student"):
    models = files / f"{student}.keras", files / "teacher.keras"
    arguments = ["transfer", *models, files / "labeled", *arguments]
    return CliRunner().invoke(cli, list(map(str, arguments)))


def test_an_epoch_is_a_pass_over_the_images_without_labels():
    labeled = np.arange(3.0), np.array([4, 5, 6])
    others = 10 + np.arange(11.0), np.full(11, UNLABELED)
    steps = steps_of(3, 11, 5)
    assert steps == 6  # two of each batch
    data = MixedBatches(labeled, others, 5, steps, seed=0)
    epochs = []
    for _ in range(2):
        batches = [data[n] for n in range(len(data))]
        epochs.append(np.concatenate([x for x, _ in batches]))
        for x, y in batches:
            assert list(y[:3]) == list(x[:3] + 4)
            assert list(y[3:]) == [UNLABELED] * 2
        unlabeled = [x for x in epochs[-1] if x >= 10]
        assert set(unlabeled) == set(others[0])
        # The labeled images are repeated, as often as one another.
        counts = [np.sum(epochs[-1] == x) for x in labeled[0]]
        assert counts == [6, 6, 6]
        data.on_epoch_end()
    assert not np.array_equal(*epochs)
    with pytest.raises(IndexError, match="no batch 6 of 6"):
        data[6]


def test_more_labels_than_other_images():
    labeled = np.arange(9.0), np.arange(9)
    steps = steps_of(9, 2, 4)
    assert steps == 5
    data = MixedBatches(labeled, (np.zeros(2), np.full(2, -1)), 4, steps, 0)
    seen = [y for n in range(5) for y in data[n][1] if y != UNLABELED]
    assert set(seen) == set(range(9))
    alone = MixedBatches(labeled, None, 4, steps, 0)
    assert all(UNLABELED not in alone[n][1] for n in range(5))
    assert len(alone[0][1]) == 4


def test_folders_of_images_without_labels_are_read_whole(files):
    data = load_unlabeled(str(files / "others"), FORM)
    assert isinstance(data, ImageFolder) and len(data.files) == 10
    x, y = data.read([9, 0])
    expected = keras.utils.img_to_array(
        keras.utils.load_img(data.files[9], color_mode="grayscale")
    )
    np.testing.assert_allclose(x[0], expected / 255, atol=1e-6)
    assert list(y) == [UNLABELED] * 2
    x, y = load_unlabeled(str(files / "x.npz"), FORM)
    assert x.shape == (4, 5, 7, 1) and x.max() <= 1
    assert list(y) == [UNLABELED] * 4


def test_accuracy_is_that_of_the_images_with_labels():
    metric = LabeledAccuracy()
    outputs = np.eye(3)[[0, 1, 2, 1, 0]]
    metric.update_state(np.array([0, 2, -1, 1, -1]), outputs)
    assert float(metric.result()) == pytest.approx(2 / 3)
    metric.reset_state()
    weights = np.array([1.0, 3.0, 5.0, 0.0, 5.0])
    metric.update_state(np.array([0, 2, -1, 1, -1]), outputs, weights)
    assert float(metric.result()) == pytest.approx(1 / 4)


@pytest.mark.slow
def test_the_student_learns_of_them_and_is_compared(files, tmp_path):
    out = tmp_path / "new.keras"
    result = run(
        files,
        *("--unlabeled", files / "others", "--alpha", 0.9, "--epochs", 1),
        *("--validation", files / "labeled", "--batch-size", 4),
        *("--compare-alone", "--out", out, "--json"),
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert said["validation_accuracy"]["alone"] is not None
    assert np.isfinite(said["history"]["loss"][0])
    assert 0 <= said["history"]["accuracy"][0] <= 1
    assert keras.saving.load_model(out).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--unlabeled", "no-folder"], "no such folder"),
        (["--unlabeled", "empty"], "no images"),
        (["--unlabeled", "y.npz"], "x_train or x"),
        (["--unlabeled", "others", "--precompute", "f"], "--precompute"),
        (["--unlabeled", "others", "--batch-size", 1], "--batch-size 1"),
    ],
)
def test_what_cannot_be_read_or_combined(
    files, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(files)
    out = tmp_path / "new.keras"
    result = run(files, *arguments, "--out", out)
    assert result.exit_code == 1 and words in result.output
    assert "Traceback" not in result.output and not out.exists()


def test_a_student_of_one_output(files, tmp_path):
    result = run(
        files,
        *("--unlabeled", files / "others", "--out", tmp_path / "new.keras"),
        student="one_output",
    )
    assert result.exit_code == 1
    assert "an output for each class" in result.output


def test_a_broken_image_is_named(files, tmp_path):
    folder = tmp_path / "others"
    shutil.copytree(files / "others", folder)
    (folder / "broken.png").write_bytes(b"no image")
    result = run(files, "--unlabeled", folder, "--out", tmp_path / "new.keras")
    assert result.exit_code == 1 and "broken.png" in result.output
