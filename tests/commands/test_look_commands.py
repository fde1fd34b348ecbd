import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_attention.cli import cli
from keras_attention.commands.inputs import find_images
from keras_attention.commands.view import predictions
from support.visualization import image_model
from support.visualization import masked_model
from visualization.test_attention_page import content


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def size(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look")
    image_model().save(folder / "teacher.keras")
    image_model().save(folder / "student.keras")
    masked_model().save(folder / "text.keras")
    values = np.random.default_rng(0)
    pixels = values.integers(256, size=(3, 24, 20, 3), dtype="uint8")
    for name, image in zip(["cat", "dog", "dog"], pixels, strict=True):
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        number = len(list((folder / "photos" / name).iterdir()))
        Image.fromarray(image).save(folder / f"photos/{name}/{number}.png")
    (folder / "photos" / "notes.txt").write_text("no image")
    small = pixels[:, ::2, ::2]
    np.savez(folder / "images.npz", x=small, y=[7, 8, 9])
    (folder / "words.txt").write_text("the dog\n\na <b>cat</b>\n")
    (folder / "numbers.txt").write_text("2 3 4\n5 6\n")
    words = ["[PAD]", "[UNK]", "[BOS]", "the", "dog", "cat"]
    (folder / "vocabulary.txt").write_text("\n".join(words))
    return folder


def test_maps_of_two_models(folder, tmp_path):
    out = tmp_path / "new" / "maps.png"
    arguments = ("maps", folder / "teacher.keras", folder / "photos")
    arguments += ("--compare", folder / "student.keras", "--layer", "conv")
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "Pixels: 0 to 1 (assumed: nothing is stored with the model)",
        f"Written: {out}",
    ]
    wide = size(out)
    again = run(*arguments, "--out", out)
    assert again.exit_code == 1 and "--overwrite" in again.output
    result = run(
        *("maps", folder / "teacher.keras", folder / "photos/cat/0.png"),
        *("--layer", "conv", "--out", out, "--overwrite", "--json"),
    )
    assert json.loads(result.output) == {
        "written": str(out),
        "images": ["0.png"],
        "pixels": {
            "minimum": 0.0,
            "maximum": 1.0,
            "source": "assumed: nothing is stored with the model",
        },
    }
    small = size(out)
    assert small[0] < wide[0] and small[1] < wide[1]


def test_layers_of_the_other_model(folder, tmp_path):
    arguments = ("maps", folder / "teacher.keras", folder / "images.npz")
    arguments += ("--layer", "conv", "--compare-layer", "last")
    result = run(*arguments)
    assert result.exit_code == 2 and "--compare OTHER" in result.output
    result = run(
        *(*arguments, "--compare", folder / "student.keras"),
        *("--out", tmp_path / "maps.png"),
    )
    assert result.exit_code == 0, result.output


def test_class_activation(folder, tmp_path):
    out = tmp_path / "maps.png"
    model = folder / "teacher.keras"
    arguments = ("maps", model, folder / "photos", "--class-activation")
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, result.output
    narrow = size(out)
    result = run(
        *(*arguments, "--compare", folder / "student.keras"),
        *("--layer", "conv", "--out", out, "--overwrite"),
    )
    assert result.exit_code == 0, result.output
    assert size(out)[0] > narrow[0] and size(out)[1] == narrow[1]
    result = run(*arguments, "--layer", "conv", "--layer", "last")
    assert result.exit_code == 2 and "at one --layer" in result.output


def test_view_images(folder, tmp_path):
    out = tmp_path / "page.html"
    result = run(
        *("view", folder / "teacher.keras", "--data", folder / "photos"),
        *("--compare", folder / "student.keras", "--out", out),
    )
    assert result.exit_code == 0, result.output
    assert "MB). Open it in a browser." in result.output
    page = content(out)
    labels = [each["label"] for each in page["examples"]]
    assert [label.split(" \N{RIGHTWARDS ARROW}")[0] for label in labels] == [
        "cat: 0.png",
        "dog: 0.png",
        "dog: 1.png",
    ]
    assert all("teacher: " in each and "student: " in each for each in labels)
    assert [m["name"] for m in page["models"]] == ["teacher", "student"]
    for model in page["models"]:
        names = {text.split(",")[0] for text in model["predictions"]}
        assert names <= {"cat", "dog"}
    assert page["title"] == "Attention of teacher and student"


def test_pixels_are_scaled_and_floats_are_not(folder, tmp_path):
    with np.load(folder / "images.npz") as file:
        bytes_ = file["x"]
    np.save(tmp_path / "floats.npy", bytes_.astype("float32") / 255 * 2 - 1)
    pages = []
    for data in (folder / "images.npz", tmp_path / "floats.npy"):
        out = tmp_path / f"{data.stem}.html"
        result = run(
            *("view", folder / "teacher.keras", "--data", data, "--out", out),
            *("--pixels=-1,1", "--limit", 2, "--json"),
        )
        assert result.exit_code == 0, result.output
        pages.append(content(out))
    labels = [[e["label"] for e in page["examples"]] for page in pages]
    numbers = [[label.split()[0] for label in page] for page in labels]
    assert numbers == [["7", "8"], ["0", "1"]]
    values = [page["models"][0]["layers"][-1]["plots"] for page in pages]
    np.testing.assert_allclose(
        values[0][0]["values"], values[1][0]["values"], rtol=1e-2
    )


@pytest.mark.parametrize("command", ["view", "maps"])
def test_one_hot_labels_are_classes(command, folder, tmp_path):
    x = np.random.default_rng(1).random((4, 12, 10, 3)).astype("float32")
    np.savez(tmp_path / "x.npz", x=x, y=np.eye(5)[[4, 1, 0, 3]])
    data = ("--data", tmp_path / "x.npz") if command == "view" else ()
    images = () if data else (tmp_path / "x.npz",)
    suffix = "html" if data else "png"
    result = run(
        *(command, folder / "teacher.keras", *images, *data, "--limit", 3),
        *("--json", "--out", tmp_path / f"x.{suffix}"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)["examples" if data else "images"]
    assert [label.split()[0] for label in found] == ["4", "1", "0"]


def test_view_sentences(folder, tmp_path):
    out = tmp_path / "page.html"
    result = run(
        *("view", folder / "text.keras", "--data", folder / "words.txt"),
        *("--tokenizer", folder / "vocabulary.txt", "--out", out),
    )
    assert result.exit_code == 0, result.output
    first, second = content(out)["examples"]
    assert first["words"][:3] == ["[BOS]", "the", "dog"]
    assert second["label"] == "a <b>cat</b>"
    assert second["words"].count("[UNK]") > 3
    result = run(
        *("view", folder / "text.keras", "--data", folder / "numbers.txt"),
        *("--out", out, "--overwrite"),
    )
    assert result.exit_code == 0, result.output
    words = [each["words"] for each in content(out)["examples"]]
    assert words == [["2", "3", "4"], ["5", "6", "[PAD]"]]


@pytest.mark.parametrize(
    "data, words",
    [
        ("none", "no such file or folder"),
        ("words.txt", "give --tokenizer"),
        ("photos/notes.txt", "give --tokenizer"),
        ("empty", "No images"),
        ("bad.png", "bad.png: it is none of the formats BMP, GIF"),
        ("bad.npz", "cannot be read"),
        ("other.npz", "no array named"),
        ("pickled.npy", "cannot be read"),
        ("short.npz", "one entry for each input"),
        ("soft.npz", "one-hot rows"),
        ("none.npy", "one input or more"),
        ("nan.npy", "NaN"),
        ("large.npz", "Received: a batch of shape (2, 30, 30, 3)"),
        ("flat.npy", "takes inputs of shape"),
    ],
)
def test_bad_data(folder, tmp_path, data, words):
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "bad.png").write_text("no image")
    (folder / "bad.npz").write_text("no array")
    np.savez(folder / "other.npz", z=np.ones(3))
    np.savez(folder / "large.npz", x=np.ones((2, 30, 30, 3)))
    np.save(folder / "none.npy", np.ones((0, 12, 10, 3)))
    np.save(folder / "nan.npy", np.full((1, 12, 10, 3), np.nan))
    np.save(folder / "flat.npy", np.ones(3))
    np.savez(folder / "short.npz", x=np.ones((2, 12, 10, 3)), y=[1])
    y = [[0.5, 0.5], [0, 1]]
    np.savez(folder / "soft.npz", x=np.ones((2, 12, 10, 3)), y=y)
    np.save(folder / "pickled.npy", np.array([{}]), allow_pickle=True)
    result = run(
        *("view", folder / "teacher.keras", "--data", folder / data),
        *("--out", tmp_path / "page.html"),
    )
    assert result.exit_code == 1, result.output
    assert words in result.output and "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_examples_come_from_each_class_in_turn(folder, tmp_path):
    photos = tmp_path / "photos"
    for name, count in (("a", 9), ("b", 1), ("c", 3)):
        (photos / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (5, 4)).save(photos / name / f"{number}.png")
    labels = [label for _, label in find_images([photos], 6)]
    assert labels == [
        "a: 0.png",
        "b: 0.png",
        "c: 0.png",
        "a: 1.png",
        "c: 1.png",
        "a: 2.png",
    ]
    assert len(find_images([photos], 100)) == 13
    both = find_images([photos / "b" / "0.png", photos], 2)
    assert [label for _, label in both] == ["0.png", "a: 0.png"]


def test_predictions_of_classifiers(tmp_path):
    inputs = keras.Input((2,))
    softmax = keras.Model(inputs, keras.layers.Softmax()(inputs))
    logits = keras.Model(inputs, keras.layers.Identity()(inputs))
    values = np.log([[0.25, 0.75], [0.9, 0.1]]).astype("float32")
    for model in (softmax, logits):
        found = predictions(model, values, ["cat", "dog"])
        assert found == ["dog 75 %", "cat 90 %"]
        found = predictions(model, values, ["cat", "dog", "fox"])
        assert found == ["class 1 75 %", "class 0 90 %"]
    image = keras.Input((4, 4, 3))
    deep = keras.Model(image, keras.layers.Conv2D(2, 3)(image))
    assert predictions(deep, np.zeros((3, 4, 4, 3)), []) == [""] * 3


def test_bad_names(folder, tmp_path):
    model = folder / "teacher.keras"
    result = run("maps", model, folder / "photos", "--out", "maps.jpg")
    assert result.exit_code == 1 and "must end in .png" in result.output
    result = run(
        *("maps", model, folder / "photos", "--layer", "comv"),
        *("--out", tmp_path / "maps.png"),
    )
    assert result.exit_code == 1 and "Did you mean 'conv'" in result.output


def test_images_of_several_sizes(folder, tmp_path):
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)]
    )
    model.save(tmp_path / "any.keras")
    for size in (8, 9):
        Image.new("RGB", (size, size)).save(tmp_path / f"{size}.png")
    files = [tmp_path / "8.png", tmp_path / "9.png"]
    out = tmp_path / "maps.png"
    result = run("maps", tmp_path / "any.keras", *files, "--out", out)
    assert result.exit_code == 1 and "several sizes" in result.output
    result = run("maps", tmp_path / "any.keras", files[0], "--out", out)
    assert result.exit_code == 0, result.output


def test_models_that_take_something_else(folder, tmp_path):
    """The error is a line, without the values of the images."""
    tokens = folder / "tokens.keras"
    inputs = [keras.Input((12, 10, 3), name=name) for name in "ab"]
    keras.Model(inputs, keras.layers.Add()(inputs)).save(folder / "two.keras")
    keras.Sequential(
        [keras.Input((7,)), keras.layers.Dense(2)],
    ).save(tokens)
    photo = folder / "photos/cat/0.png"
    model = folder / "teacher.keras"
    for arguments, words in (
        ((tokens, photo), "takes inputs of shape (None, 7)"),
        ((folder / "two.keras", photo), "a model of one input"),
        ((model, photo, "--compare", tokens), "takes inputs of shape"),
    ):
        out = tmp_path / "maps.png"
        result = run("maps", *arguments, "--out", out)
        assert result.exit_code == 1 and words in result.output
        assert len(result.output) < 300 and not out.exists()


def test_files_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "maps.png").mkdir()
    for out, words in (
        ("notes.txt/maps.png", "notes.txt is a file"),
        ("maps.png", "maps.png, a folder"),
    ):
        result = run(
            *("maps", folder / "teacher.keras", folder / "photos"),
            *("--out", tmp_path / out, "--overwrite"),
        )
        assert result.exit_code == 1 and words in result.output
