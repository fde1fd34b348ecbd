import functools
import json
import shutil

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_attention.cli import cli
from keras_attention.commands import transfer
from keras_attention.commands.image_data import ImageFormat
from keras_attention.commands.image_data import load_images
from keras_attention.commands.inputs import find_images
from keras_attention.commands.load import load_model
from keras_attention.commands.pixels import given_pixels
from keras_attention.commands.training_data import default_batch_size
from keras_attention.commands.transfer import _epochs
from keras_attention.commands.transfer import _learning_rate
from keras_attention.models import WideResNet

pytestmark = pytest.mark.tensorflow

SHORT = ("--epochs", 1, "--batch-size", 8, "--learning-rate", 0.01)


def run(*arguments):
    return CliRunner().invoke(cli, ["transfer", *map(str, arguments)])


def pictures(count=24, size=(8, 8), seed=0):
    """Dark and bright noise: the class is the brightness."""
    generator = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = (
        generator.integers(0, 100, (count, *size, 1))
        + 150 * y[:, None, None, None]
    )
    return x.astype("uint8"), y


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    shape = {"input_shape": (8, 8, 1), "classes": 2}
    WideResNet(16, 1, **shape).save(folder / "teacher.keras")
    WideResNet(10, 1, **shape).save(folder / "student.keras")
    x, y = pictures()
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(folder / "plain.npz", x=x[..., 0], y=y)
    for number, (image, label) in enumerate(
        zip(*pictures(16, (9, 7)), strict=True)
    ):
        path = folder / "photos" / ("dark", "light")[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return folder


load_once = functools.cache(load_model)


@pytest.fixture
def loaded_once(monkeypatch):
    """Reads each model once, for commands that are refused."""
    monkeypatch.setattr(transfer, "load_model", load_once)


def models(files):
    return files / "student.keras", files / "teacher.keras"


def test_student_of_an_npz_is_taught_and_saved(files, tmp_path):
    out = tmp_path / "taught.keras"
    result = run(*models(files), files / "data.npz", *SHORT, "--out", out)
    assert result.exit_code == 0, result.output
    assert "stage1   8×8  stage1   8×8  1" in result.output
    assert "Validation accuracy: " in result.output
    assert f"Written: {out}" in result.output
    before, after = map(keras.saving.load_model, (models(files)[0], out))
    assert type(after) is type(before)
    difference = [
        np.abs(a - b).max()
        for a, b in zip(before.get_weights(), after.get_weights(), strict=True)
    ]
    assert max(difference) > 0
    again = run(*models(files), files / "data.npz", *SHORT, "--out", out)
    assert again.exit_code == 1 and "--overwrite" in again.output
    assert [path.name for path in tmp_path.iterdir()] == ["taught.keras"]


@pytest.mark.slow
def test_every_option_reaches_the_model(files, tmp_path, monkeypatch):
    import keras_attention.distillation as distillation

    seen = []

    class Spy(distillation.AttentionTransferModel):
        def __init__(self, *args, **kwargs):
            seen.append(kwargs)
            super().__init__(*args, **kwargs)

        def compile(self, optimizer, loss, metrics):
            seen.append(optimizer)
            super().compile(optimizer, loss=loss, metrics=metrics)

    monkeypatch.setattr(distillation, "AttentionTransferModel", Spy)
    result = run(
        *(*models(files), files / "photos", "--out", tmp_path / "new.keras"),
        *("--pair", "stage1", "--pair", "stage2=stage3"),
        *("--pair-weight", 0.5, "--pair-weight", 2),
        *("--beta", 60, "--beta-decay", "linear", "--power", 4),
        *("--map-function", "max", "--reduction", "sum"),
        *("--alpha", 0.9, "--alpha-decay", "cosine", "--temperature", 3),
        *("--gradient-transfer", 0.1, "--symmetry", 0.2, "--epochs", 2),
        *("--batch-size", 5, "--optimizer", "adamw", "--weight-decay", 0.01),
        *("--validation", files / "data.npz", "--pixels=-1,1", "--json"),
    )
    assert result.exit_code == 0, result.output
    arguments, optimizer = seen
    assert arguments.pop("student") and arguments.pop("teacher")
    beta, alpha = arguments.pop("beta"), arguments.pop("alpha")
    assert [float(beta(n)) for n in (0, 4, 8)] == [60, 30, 0]  # 2 · 4 steps
    assert float(alpha(0)) == pytest.approx(0.9)
    assert float(alpha(8)) == pytest.approx(0)
    assert arguments == {
        "pairs": [("stage1", "stage1"), ("stage2", "stage3")],
        "pair_weights": [0.5, 2.0],
        "logits": None,
        "power": 4,
        "map_function": "max",
        "reduction": "sum",
        "temperature": 3,
        "gradient_transfer": 0.1,
        "symmetry": 0.2,
    }
    assert type(optimizer).__name__ == "AdamW"
    assert optimizer.weight_decay == 0.01
    written = json.loads(result.output)
    assert written["pairs"] == [
        ["stage1", "stage1", 0.5],
        ["stage2", "stage3", 2.0],
    ]
    assert len(written["history"]["symmetry_loss"]) == 2
    assert len(written["history"]["val_accuracy"]) == 2
    assert set(written["validation_accuracy"]) == {"before", "after", "alone"}


@pytest.mark.slow
@pytest.mark.parametrize("data", ["photos", "plain.npz"])
def test_precomputed_teacher_trains_the_same_pairs(files, tmp_path, data):
    kept = tmp_path / "maps"
    arguments = (
        *(*models(files), files / data, *SHORT, "--precompute", kept),
        *("--validation-split", 0.25, "--alpha", 0.5, "--overwrite"),
        *("--out", tmp_path / "new.keras", "--json"),
    )
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    assert kept.exists()
    history = json.loads(first.output)["history"]
    assert {"attention/stage1", "distillation_loss", "val_loss"} <= set(history)
    assert run(*arguments).exit_code == 0  # Kept maps are those of the data.
    other = run(*arguments, "--seed", 5)
    assert other.exit_code == 1 and "Traceback" not in other.output


@pytest.mark.slow
def test_interrupted_run_goes_on(files, tmp_path):
    """What was stopped after the first of two epochs trains one more."""
    arguments = (*models(files), files / "data.npz", *SHORT[2:], "--overwrite")
    arguments += ("--learning-rate-decay", "constant")
    parts = tmp_path / "parts.keras"
    backup = ("--backup", tmp_path / "state")

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    kept = keras.callbacks.BackupAndRestore

    def interrupted(folder):
        return [kept(folder), Stop()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.callbacks, "BackupAndRestore", interrupted)
        stopped = run(*arguments, *backup, "--epochs", 2, "--out", parts)
    assert stopped.exit_code == 1 and not parts.exists()
    went_on = run(*arguments, *backup, "--epochs", 2, "--out", parts, "--json")
    assert went_on.exit_code == 0, went_on.output
    assert len(json.loads(went_on.output)["history"]["loss"]) == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--out", "new.h5"], "must end in .keras"),
        (["--out", "none/new.keras"], "make it first"),
        (["--pair", "stge1"], "Did you mean 'stage1'"),
        (["--pair", "=stage1"], "STUDENT=TEACHER"),
        (["--pair", "stage1", "--pairs", "groups"], "one of --pairs"),
        (["--pair-weight", "1"], "--pair-weight"),
        (["--beta", "-1"], "--beta -1"),
        (["--alpha", "2"], "--alpha 2"),
        (["--temperature", "0"], "--temperature 0"),
        (["--learning-rate", "0"], "positive number"),
        (["--image-size", "8x8"], "such as 64,64"),
        (["--image-size", "9,9"], "leave it out"),
        (["--validation", "nowhere"], "nowhere"),
        (
            ["--validation", "{data}", "--validation-split", "0.1"],
            "one of --validation",
        ),
        (["--logits", "logitz"], "logitz"),
        (["--pair", "stage1=stge1"], "Error: No layer has this name"),
        (["--validation-split", "0.01"], "leaves no image to validate with"),
        (["--weight-decay", "-1"], "--weight-decay -1"),
        (["--momentum", "2"], "--momentum 2"),
    ],
)
def test_wrong_arguments_say_what_to_do(
    files, tmp_path, monkeypatch, loaded_once, arguments, words
):
    monkeypatch.chdir(tmp_path)
    data = files / "data.npz"
    arguments = [text.format(data=data) for text in arguments]
    if "--logits" in arguments:
        arguments += ["--alpha", "0.5"]
    if "--out" not in arguments:
        arguments += ["--out", "new.keras"]
    result = run(*models(files), data, *SHORT, *arguments)
    assert result.exit_code == 1, result.output
    assert words in result.output and "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_wrong_data_say_what_to_do(files, tmp_path, loaded_once):
    x, y = pictures()
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    np.save(tmp_path / "one.npy", x)
    cut = save(tmp_path / "cut.npz", x=x, y=y)
    cut.write_bytes(cut.read_bytes()[:-50])
    (tmp_path / "empty").mkdir()
    for data, words in (
        (tmp_path / "one.npy", "from an .npz file with x_train and y_train"),
        (cut, "cut.npz cannot be read"),
        (tmp_path / "none", "no such folder or file"),
        (text, "x_train"),
        (tmp_path / "empty", "There are no images"),
        (save(tmp_path / "a.npz", z=x), "with z"),
        (save(tmp_path / "b.npz", x=x[:, 1:], y=y), "(7, 8, 1)"),
        (save(tmp_path / "c.npz", x=x, y=y[1:]), "one integer for each"),
        (save(tmp_path / "d.npz", x=x, y=y / 2), "one integer for each"),
        (save(tmp_path / "e.npz", x=x, y=y + 1), "with 3 classes"),
        (save(tmp_path / "f.npz", x=x, y=y - 1), "from -1 on"),
        (save(tmp_path / "g.npz", x=x, y=y[:0]), "one integer for each"),
        (save(tmp_path / "h.npz", x=x, y=y[0]), "one integer for each"),
    ):
        out = tmp_path / "new.keras"
        result = run(*models(files), data, *SHORT, "--out", out)
        assert result.exit_code == 1, result.output
        assert words in result.output, result.output
        assert "Traceback" not in result.output


@pytest.mark.slow
def test_folders_of_a_part_of_the_classes_are_refused(files, tmp_path):
    """Their images would get the numbers of other classes."""
    student, out = tmp_path / "student.keras", tmp_path / "new.keras"
    WideResNet(10, 1, input_shape=(8, 8, 1), classes=3).save(student)
    shutil.copytree(files / "photos", tmp_path / "photos")
    arguments = (student, files / "teacher.keras", tmp_path / "photos")
    result = run(*arguments, *SHORT, "--out", out)
    assert result.exit_code == 1 and not out.exists()
    assert "each of the student's 3 classes" in result.output
    assert "Received: 2 folders, from 'dark' to 'light'" in result.output
    mixed = run(
        *(student, files / "teacher.keras", files / "data.npz", *SHORT),
        *("--validation", files / "photos", "--out", out),
    )
    assert mixed.exit_code == 1 and "Received: 2 folders" in mixed.output
    # "gray" is between them: "light" is class 2, as the student means it.
    (tmp_path / "photos" / "gray").mkdir()
    form = ImageFormat((8, 8), 1, "channels_last", given_pixels("0,1"))
    data = load_images(tmp_path / "photos", form, in_memory=True)
    assert data.names == ["dark", "gray", "light"]
    assert sorted(set(data.training[1].tolist())) == [0, 2]
    result = run(*arguments, *SHORT, "--out", out)
    assert result.exit_code == 0 and out.exists(), result.output


def test_models_that_take_no_image(files, tmp_path):
    inputs = keras.Input((8, 8, 1))
    flat = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    deep = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    for model, words in ((flat, "one image"), (deep, "(batch, classes)")):
        model.save(tmp_path / "model.keras")
        result = run(
            *(tmp_path / "model.keras", files / "teacher.keras"),
            *(files / "data.npz", "--out", tmp_path / "new.keras"),
        )
        assert result.exit_code == 1 and words in result.output


@pytest.mark.parametrize(
    "count, expected",
    [
        (1, 8),
        (79, 8),
        (120, 8),
        (160, 16),
        (640, 64),
        (1280, 128),
        (10**6, 128),
    ],
)
def test_batches_suit_the_number_of_images(count, expected):
    assert default_batch_size(count) == expected


@pytest.mark.parametrize(
    ("optimizer", "given", "batch_size", "expected"),
    [
        ("sgd", None, 128, 0.1),
        ("sgd", None, 32, 0.025),
        ("sgd", None, 512, 0.1),
        ("sgd", 0.3, 32, 0.3),
        ("adam", None, 32, 1e-3),
        ("adam", None, 512, 1e-3),
    ],
)
def test_the_learning_rate_of_a_batch(optimizer, given, batch_size, expected):
    options = {
        "optimizer": optimizer,
        "learning_rate": given,
        "batch_size": batch_size,
    }
    assert _learning_rate(options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("steps_per_epoch", "expected"), [(1, 600), (16, 38), (60, 10), (900, 10)]
)
def test_few_images_have_more_epochs(steps_per_epoch, expected):
    assert _epochs(steps_per_epoch) == expected


@pytest.mark.slow
def test_few_images_take_more_than_one_step(files, tmp_path):
    result = run(
        *(*models(files), files / "photos", "--epochs", 1),
        *("--out", tmp_path / "new.keras"),
    )
    assert result.exit_code == 0, result.output
    words = (
        "16 images in batches of 8: 2 steps an epoch, 2 in all, learning rate "
        "0.00625"
    )
    assert words in result.output
    assert "Pixels: 0 to 1 (assumed" in result.output


def test_a_photograph_that_is_cut_off_is_named(files, tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(90, 70))
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        path = tmp_path / "photos" / name / "photo.png"
        Image.fromarray(noise.astype("uint8")).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    out = tmp_path / "new.keras"
    result = run(*models(files), tmp_path / "photos", "--out", out)
    assert result.exit_code == 1, result.output
    assert "b/photo.png: " in result.output and not out.exists()
    path.write_bytes(b"no image")
    result = run(*models(files), tmp_path / "photos", "--out", out)
    assert result.exit_code == 1 and "b/photo.png: it is" in result.output


def test_format_is_read_off_the_model():
    any_size = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)]
    )
    with pytest.raises(ValueError, match="--image-size H,W"):
        ImageFormat.of_model(any_size, "0,1")
    found = ImageFormat.of_model(any_size, "0,1", (9, 7))
    assert found.shape == (9, 7, 3)
    first = keras.Sequential([keras.Input((3, 9, 7)), keras.layers.Flatten()])
    found = ImageFormat.of_model(first, "0,1")
    assert found.data_format == "channels_first" and found.size == (9, 7)


def test_folder_is_resized_scaled_and_labeled_by_name(files):
    form = ImageFormat((8, 8), 1, "channels_last", given_pixels("-1,1"))
    data = load_images(files / "photos", form, 5, in_memory=True)
    x, y = data.training
    assert x.shape == (16, 8, 8, 1) and data.classes == 2 and data.count == 16
    assert x.min() >= -1 and x.max() <= 1
    # "dark" is before "light".
    np.testing.assert_array_equal(x.mean((1, 2, 3)) > 0, y == 1)
    parts = load_images(files / "photos", form, 5, split=0.25, seed=3)
    seen = (
        [len(x) for x, _ in parts.training],
        [len(x) for x, _ in parts.validation],
    )
    assert (sum(seen[0]), sum(seen[1])) == (12, 4)


def test_hidden_files_are_no_images(files, tmp_path):
    folder = files / "photos"
    shutil.copytree(folder, tmp_path / "photos")
    form = ImageFormat((8, 8), 1, "channels_last", given_pixels("-1,1"))
    whole = load_images(folder, form).count
    for child in (tmp_path / "photos").iterdir():
        (child / "._cat.png").write_bytes(b"what macOS keeps")
        (child / ".thumbnails").mkdir()
        (child / ".thumbnails" / "cat.png").write_bytes(b"another program's")
    assert load_images(tmp_path / "photos", form).count == whole
    assert len(find_images([tmp_path / "photos"], 1000)) == whole


def test_validation_has_the_classes_of_training(files, tmp_path):
    form = ImageFormat((8, 8), 1, "channels_last", given_pixels("0,1"))
    arguments = (files / "photos", form, 5)
    data = load_images(*arguments, validation=files / "photos")
    assert sum(len(x) for x, _ in data.validation) == 16
    source = files / "photos" / "light" / "1.png"
    other = tmp_path / "lite" / "1.png"
    other.parent.mkdir()
    other.write_bytes(source.read_bytes())
    # "lite" is no class of the training images.
    with pytest.raises(ValueError, match="must be among"):
        load_images(*arguments, validation=tmp_path)


def test_arrays_are_scaled_and_split(files):
    form = ImageFormat((8, 8), 1, "channels_last", given_pixels("0,1"))
    x, y = pictures()
    data = load_images(files / "data.npz", form, 7)
    np.testing.assert_allclose(data.training[0], x / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.validation[1], y)
    parts = load_images(files / "plain.npz", form, 7, split=0.25, seed=3)
    assert [len(part[0]) for part in (parts.training, parts.validation)] == [
        18,
        6,
    ]
    together = np.concatenate([parts.training[0], parts.validation[0]])
    order = np.lexsort(together.reshape(24, -1).T)
    expected = (x / 255).astype("float32")
    np.testing.assert_allclose(
        together[order],
        expected[np.lexsort(expected.reshape(24, -1).T)],
        rtol=1e-6,
    )
