import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_attention as ka
from keras_attention.cli import cli
from keras_attention.serving import read_signatures
from support.networks import first_of

pytestmark = pytest.mark.tensorflow


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def make_model(size=(12, 8)):
    image = keras.Input((*size, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = ka.SqueezeExcite(2, name="se")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(5, name="head")(x))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model, and its export by the command line."""
    folder = tmp_path_factory.mktemp("commands")
    make_model().save(folder / "model.keras")
    result = run(
        *("export", folder / "model.keras", folder / "served"),
        *("--signature", "attention=conv,se:gate", "--image-bytes"),
    )
    assert result.exit_code == 0, result.output
    (folder / "output.txt").write_text(result.output)
    picture = np.arange(12 * 8 * 3).reshape(12, 8, 3) % 251
    Image.fromarray(picture.astype("uint8")).save(folder / "a.png")
    Image.fromarray(255 - picture.astype("uint8")).save(folder / "b.PNG")
    np.save(folder / "pixels.npy", picture[None] / 255)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return keras.saving.load_model(folder / "model.keras")


@pytest.fixture(scope="module")
def pixels(folder):
    return np.load(folder / "pixels.npy").astype("float32")


def outputs(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.output)["outputs"]


def test_export_says_what_a_client_must_know(folder):
    text = (folder / "output.txt").read_text()
    path = folder / "served" / "1"
    assert f"Written: {path}" in text
    assert "serving_default: image float32 [?, 12, 8, 3] -> head" in text
    assert "image_bytes: image_bytes string [?] -> head float32" in text
    assert "conv_map float32 [?, 10, 6]" in text and "se_gate" in text
    assert set(read_signatures(path)) == {
        "serving_default",
        "attention",
        "image_bytes",
    }


def test_versions_are_replaced_only_when_asked(folder, tmp_path):
    arguments = ("export", folder / "model.keras", tmp_path, "--no-verify")
    assert run(*arguments, "--version", 3).exit_code == 0
    again = run(*arguments, "--version", 3)
    assert again.exit_code == 1 and "--version 3" in again.output
    assert run(*arguments, "--version", 3, "--overwrite").exit_code == 0
    assert run(*arguments).exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4"]
    result = run(*arguments, "--overwrite")
    assert result.exit_code == 2 and "needs --version" in result.output


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--signature", "attention"], 1, "NAME=LAYER"),
        (["--signature", "attention=convv"], 1, "Did you mean 'conv'"),
        (["--signature", "a=conv", "--signature", "a=se"], 1, "told once"),
        (["--image-bytes", "--image-size", "12"], 1, "such as 224,224"),
        (["--image-size", "12,8"], 2, "is for --image-bytes"),
        (["--version", "0"], 1, "--version 0"),
        (["--format", "pickle"], 2, "'onnx'"),
        (["--format", "onnx", "--image-bytes"], 2, "for --format saved-model"),
        (["--format", "litert", "--signature", "a=se"], 2, "--signature"),
        (["--pixels", "1,0"], 1, "smaller than"),
        (["--import", "no_such_module"], 1, "no_such_module"),
    ],
)
def test_export_with_bad_arguments(folder, tmp_path, arguments, code, words):
    result = run("export", folder / "model.keras", tmp_path / "x", *arguments)
    assert result.exit_code == code
    assert words in result.output and "Traceback" not in result.output
    assert not list((tmp_path / "x").glob("*"))


def test_the_folder_of_an_export_is_a_file(folder, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("")
    for name, words in ((path, "DIR must be a folder"), (path / "a", "Not a")):
        result = run("export", folder / "model.keras", name)
        assert result.exit_code == 1 and words in result.output
        assert "Errno" not in result.output and str(path) in result.output


def test_damaged_models_are_not_exported(folder, tmp_path):
    whole = (folder / "model.keras").read_bytes()
    damaged = bytearray(whole)
    for start in range(len(whole) // 4, 3 * len(whole) // 4, 7):
        damaged[start] ^= 0xFF
    for number, data in enumerate((whole[:-500], bytes(damaged), b"")):
        path = tmp_path / f"{number}.keras"
        path.write_bytes(data)
        result = run("export", path, tmp_path / "served")
        assert result.exit_code == 1, number
        assert "cannot be loaded" in result.output and path.name in (
            result.output
        )
        assert len(result.output.splitlines()) <= 2
        assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    "kind", first_of(["json", "npz", "request", "rows", "named rows", "npy"], 3)
)
def test_predict_with_numbers(folder, tmp_path, model, pixels, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, pixels.astype("float64"))
    elif kind == "npz":
        np.savez(path, image=pixels)
    else:
        path = tmp_path / "x.json"
        values = pixels.tolist()
        if kind == "request":
            values = {"inputs": {"image": values}}
        elif kind == "rows":
            values = {"instances": values}
        elif kind == "named rows":
            values = {"instances": [{"image": row} for row in values]}
        path.write_text(json.dumps(values))
    found = outputs(run("predict", folder / "served", path, "--json"))
    np.testing.assert_allclose(found["head"], model(pixels), rtol=1e-5)
    found = outputs(
        run(
            *("predict", folder / "served" / "1", path, "--json"),
            *("--signature", "attention"),
        )
    )
    assert set(found) == {"head", "conv_map", "se_gate"}


def test_predict_with_images(folder, model, pixels):
    files = (folder / "a.png", folder / "b.PNG")
    both = np.concatenate([pixels, 1 - pixels])
    for signature in ("image_bytes", "serving_default"):
        arguments = ("--json", "--signature", signature)
        found = outputs(run("predict", folder / "served", *files, *arguments))
        np.testing.assert_allclose(
            found["head"], model(both), rtol=1e-4, atol=1e-6
        )
    result = run("predict", folder / "served", *files)
    assert result.exit_code == 0
    first, rest = result.output.split("\n", 1)
    assert first == "Pixels: 0 to 1 (stored with the export)"
    assert rest.startswith("head: float32 [2, 5]\n[[")


def test_predict_with_scaled_images(folder, model, pixels):
    arguments = ("--signature", "serving_default", "--json")
    found = outputs(
        run(
            *("predict", folder / "served", folder / "a.png", *arguments),
            "--pixels=-1,1",
        )
    )
    np.testing.assert_allclose(
        found["head"], model(2 * pixels - 1), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("signature", ["image_bytes", "serving_default"])
def test_a_broken_picture_among_several_is_named(folder, tmp_path, signature):
    whole = (folder / "a.png").read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"no image", whole[8:]):
        (tmp_path / "broken.png").write_bytes(data)
        files = (folder / "a.png", tmp_path / "broken.png", folder / "b.PNG")
        result = run(
            "predict", folder / "served", *files, "--signature", signature
        )
        assert result.exit_code == 1
        first, second = result.output.splitlines()
        assert f"{tmp_path / 'broken.png'}: " in first and "--debug" in second
        assert "a.png" not in first and len(first) < 250


def test_predict_with_arrays_of_pixels(folder, tmp_path, model):
    """Integers are scaled as images are; `--pixels` is never ignored."""
    values = np.random.default_rng(0).integers(256, size=(2, 12, 8, 3))
    np.save(tmp_path / "x.npy", values.astype("uint8"))
    result = run("predict", folder / "served", tmp_path / "x.npy", "--json")
    np.testing.assert_allclose(
        outputs(result)["head"],
        model(values.astype("float32") / 255),
        rtol=1e-4,
        atol=1e-6,
    )
    result = run("predict", folder / "served", tmp_path / "x.npy")
    assert "Pixels: 0 to 1" in result.output
    np.save(tmp_path / "x.npy", values / 255)
    arguments = (tmp_path / "x.npy", "--pixels", "0,255")
    result = run("predict", folder / "served", *arguments)
    assert result.exit_code == 1 and "arrays of 8-bit" in result.output


def test_predict_with_what_is_no_input(folder, tmp_path):
    served = folder / "served"
    (tmp_path / "no.png").write_bytes(b"no image")
    (tmp_path / "no.npy").write_bytes(b"no array")
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "no.txt").write_text("1 2")
    np.savez(tmp_path / "other.npz", picture=np.zeros((1, 12, 8, 3)))
    np.save(tmp_path / "shape.npy", np.zeros((1, 12, 8, 2)))
    np.save(tmp_path / "none.npy", np.zeros((0, 12, 8, 3)))
    np.save(tmp_path / "pickle.npy", np.array([{}], object))
    np.savez_compressed(tmp_path / "whole.npz", image=np.ones((1, 12, 8, 3)))
    contents = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(contents[:-40])
    contents = contents.replace(contents[60:90], bytes(30))
    (tmp_path / "torn.npz").write_bytes(contents)
    for name, text in (
        ("ragged", "[[1, 2], [3]]"),
        ("null", "[null]"),
        ("object", '{"image": {"url": "cat.jpg"}}'),
        ("base64", '{"image": {"b64": "?"}}'),
        ("rows", '{"instances": [{"image": 1}, {"images": 2}]}'),
        ("empty", '{"instances": []}'),
        ("text", '{"image": "cat"}'),
    ):
        (tmp_path / f"{name}.json").write_text(text)
    cases = [
        ([tmp_path / "cut.npz"], "cut.npz cannot be read"),
        ([tmp_path / "torn.npz"], "torn.npz/image.npy cannot be read"),
        ([tmp_path / "ragged.json"], "lists of one length"),
        ([tmp_path / "null.json"], "neither numbers nor texts"),
        ([tmp_path / "object.json"], "an object of url"),
        ([tmp_path / "base64.json"], "base64.json: the input 'image'"),
        ([tmp_path / "rows.json"], "the same inputs"),
        ([tmp_path / "empty.json"], "a list of examples"),
        ([tmp_path / "none.png"], "no such file"),
        ([tmp_path / "no.png"], "no.png: it is none of the formats"),
        (
            [tmp_path / "no.png", "--signature", "serving_default"],
            "no.png: it is none",
        ),
        ([tmp_path / "no.npy"], "cannot be read"),
        ([tmp_path / "pickle.npy"], "cannot be read"),
        ([tmp_path / "no.json"], "cannot be read"),
        ([tmp_path / "no.txt"], "must end in"),
        ([tmp_path / "other.npz"], "takes the inputs image"),
        ([tmp_path / "shape.npy"], "'image' must have the shape"),
        ([tmp_path / "text.json"], "'image' must be numbers of float32"),
        ([tmp_path / "none.npy"], "one example or more"),
        ([tmp_path / "shape.npy", folder / "a.png"], "or images"),
        ([folder / "a.png", "--signature", "atention"], "Did you mean"),
    ]
    for arguments, words in cases:
        result = run("predict", served, *arguments)
        assert result.exit_code == 1, arguments
        assert words in result.output and "Traceback" not in result.output
        assert len(result.output.splitlines()) == 2, result.output


def test_predict_with_what_is_no_export(folder, tmp_path):
    for place, words in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, "saved_model.pb"),
        (folder / "a.png", "a.png, a file"),
    ):
        result = run("predict", place, folder / "a.png")
        assert result.exit_code == 1 and words in result.output
    result = run("predict", tmp_path, folder)
    assert result.exit_code == 1 and "name the files" in result.output


def test_an_export_is_no_model_of_layers(tmp_path):
    for command in ("sites", "layers"):
        result = run(command, tmp_path)
        assert result.exit_code == 1, result.output
        assert "must be a .keras file" in result.output
