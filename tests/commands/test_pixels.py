"""One range of pixels in every command, from the model to the export."""

import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_attention as ka
from keras_attention.cli import cli
from keras_attention.commands.image_data import ImageFormat
from keras_attention.commands.image_data import load_images
from keras_attention.commands.inputs import read_inputs
from keras_attention.commands.pixels import given_pixels

pytestmark = pytest.mark.tensorflow
LAYERS = keras.layers
COLOR = (255, 102, 51)
# The mean of an image of that color, as a model of each range sees it.
EXPECTED = {
    "0,255": COLOR,
    "0,1": (1, 0.4, 0.2),
    "-1,1": (1, -0.2, -0.6),
    "imagenet": [
        (value - mean) / std
        for value, mean, std in zip(
            (1, 0.4, 0.2),
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            strict=True,
        )
    ],
    "caffe": (51 - 103.939, 102 - 116.779, 255 - 123.68),
}


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert "Traceback" not in result.output
    return result


def means(layer=None, dtype="float32"):
    """A model whose answer is what it was fed: the mean of each channel."""
    image = keras.Input((8, 8, 3), name="image", dtype=dtype)
    x = LAYERS.Identity()(image) if layer is None else layer(image)
    if dtype != "float32":
        x = LAYERS.Rescaling(1.0)(x)
    return keras.Model(image, LAYERS.GlobalAveragePooling2D(name="mean")(x))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((16, 5, 3), COLOR, "uint8")).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "pixels",
    # The first two are those of other tests here too.
    [
        pytest.param(each, marks=pytest.mark.slow if number < 2 else ())
        for number, each in enumerate(EXPECTED)
    ],
)
def test_the_range_goes_from_the_model_to_every_command(
    tmp_path, photo, pixels
):
    model = means()
    ka.set_pixel_range(model, pixels)
    path = tmp_path / "model.keras"
    ka.save_model(model, path)
    shown = ka.PixelRange.parse(pixels)
    result = run("export", path, tmp_path / "served", "--image-bytes")
    assert result.exit_code == 0, result.output
    assert f"Pixels: {shown} (stored with the model)" in result.output
    for signature in ("image_bytes", "serving_default"):
        arguments = ("--signature", signature, "--json")
        result = run("predict", tmp_path / "served", photo, *arguments)
        answer = json.loads(result.output)
        source = answer["pixels"].pop("source")
        assert source == "stored with the export"
        assert ka.PixelRange(**answer["pixels"]) == shown
        np.testing.assert_allclose(
            answer["outputs"]["mean"], [EXPECTED[pixels]], rtol=1e-5
        )
    # What `maps` and `view` read, and `transfer` trains with.
    loaded = ka.load_model(path)
    found = read_inputs([photo], loaded, limit=1)
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    photo.rename(folder / "photo.png")
    form = ImageFormat.of_model(loaded)
    for images, name in (
        (found.values, found.pixels),
        (load_images(folder.parent, form).training[0][0], form.pixels),
    ):
        assert name.pixels == shown and images.dtype == "float32"
        np.testing.assert_allclose(
            images.mean((1, 2)), [EXPECTED[pixels]], rtol=1e-5
        )


@pytest.mark.slow
def test_a_rescaling_inside_is_recognized(tmp_path, photo):
    model = means(LAYERS.Rescaling(1 / 255, name="scale"))
    model.save(tmp_path / "model.keras")
    result = run(
        "export", tmp_path / "model.keras", tmp_path / "x", "--image-bytes"
    )
    words = "Pixels: 0 to 255 (the model's layer 'scale' scales them)"
    assert words in result.output
    for signature in ("image_bytes", "serving_default"):
        arguments = ("--signature", signature, "--json")
        result = run("predict", tmp_path / "x", photo, *arguments)
        found = json.loads(result.output)["outputs"]["mean"]
        np.testing.assert_allclose(found, [[1, 0.4, 0.2]], rtol=1e-5)
    wrong = ("export", tmp_path / "model.keras", tmp_path / "y")
    wrong += ("--image-bytes", "--pixels", "0,1")
    result = run(*wrong)
    assert result.exit_code == 1
    assert "--pixels 0,1 is not what the model takes, 0 to 255" in result.output
    assert "pass `--no-verify`" in result.output
    assert run(*wrong, "--no-verify").exit_code == 0


def test_the_range_that_is_given_is_stored(tmp_path, photo):
    means().save(tmp_path / "model.keras")
    result = run(
        *("export", tmp_path / "model.keras", tmp_path / "served"),
        "--pixels=-1,1",
    )
    assert "Pixels: -1 to 1 (given by --pixels)" in result.output
    result = run("predict", tmp_path / "served", photo)
    assert "Pixels: -1 to 1 (stored with the export)" in result.output
    result = run("predict", tmp_path / "served", photo, "--pixels", "0,255")
    assert "Pixels: 0 to 255 (given by --pixels)" in result.output
    assert "[[255. 102.  51.]]" in result.output


@pytest.mark.slow
def test_nothing_known_is_said(tmp_path, photo):
    means().save(tmp_path / "model.keras")
    result = run("export", tmp_path / "model.keras", tmp_path / "served")
    assert "Pixels" not in result.output
    result = run("predict", tmp_path / "served", photo)
    words = "Pixels: 0 to 1 (assumed: nothing is stored with the export)"
    assert words in result.output


def test_insertion_keeps_the_range(tmp_path):
    image = keras.Input((8, 8, 3))
    x = LAYERS.Conv2D(8, 3, name="conv")(image)
    model = keras.Model(image, x)
    ka.set_pixel_range(model, "caffe")
    ka.save_model(model, tmp_path / "model.keras")
    result = run(
        *("insert", tmp_path / "model.keras", "--attention", "se"),
        *("--layer", "conv", "--set", "ratio=2"),
        *("--out", tmp_path / "new.keras"),
    )
    assert result.exit_code == 0, result.output
    new = ka.load_model(tmp_path / "new.keras")
    assert ka.find_pixel_range(new).pixels == ka.PixelRange.parse("caffe")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integers_are_fed_as_they_are(tmp_path, photo, dtype):
    path = tmp_path / "model.keras"
    means(dtype=dtype).save(path)
    result = run("export", path, tmp_path / "served", "--image-bytes")
    assert result.exit_code == 0, result.output
    for signature in ("image_bytes", "serving_default"):
        result = run(
            "predict", tmp_path / "served", photo, "--signature", signature
        )
        assert "[[255. 102.  51.]]" in result.output
    found = read_inputs([photo], ka.load_model(path), limit=1)
    assert found.values.dtype == "uint8" and found.values.max() == 255
    result = run("export", path, tmp_path / "other", "--pixels=-1,1")
    assert result.exit_code == 1 and "takes pixels of 0,255" in result.output


@pytest.mark.parametrize(
    "dtype, scale, words",
    [
        ("float32", 1, "must have values of the range"),
        ("float64", 1, "must have values of the range"),
        ("int64", 2, "values from 0 to 255"),
        ("bool", 1, "Images must be integers"),
    ],
)
def test_arrays_of_another_range_are_refused(tmp_path, dtype, scale, words):
    model = means()
    ka.set_pixel_range(model, "0,1")
    x = (scale * np.arange(384).reshape(2, 8, 8, 3) % 511).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=words):
        read_inputs([tmp_path / "x.npy"], model, limit=2)
    ka.set_pixel_range(model, "0,255")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((2, 8, 8, 3)))
    with pytest.raises(ValueError, match="floats are not scaled"):
        read_inputs([tmp_path / "x.npy"], model, limit=2)


def test_integers_of_any_kind_are_pixels(tmp_path):
    model = means()
    for dtype in ("uint8", "int16", "int64"):
        np.save(tmp_path / "x.npy", np.full((1, 8, 8, 3), COLOR, dtype))
        found = read_inputs([tmp_path / "x.npy"], model, limit=1)
        np.testing.assert_allclose(
            found.values.mean((1, 2)), [EXPECTED["0,1"]], rtol=1e-5
        )


def test_models_side_by_side_take_one_range(tmp_path, photo):
    for name, model in (
        ("raw", means(LAYERS.Rescaling(1 / 255, name="scale"))),
        ("unknown", means()),
    ):
        model.save(tmp_path / f"{name}.keras")
    signed = means()
    ka.set_pixel_range(signed, "-1,1")
    ka.save_model(signed, tmp_path / "signed.keras")
    out = ("--out", tmp_path / "out.png")
    arguments = ("maps", tmp_path / "raw.keras", photo, *out, "--compare")
    result = run(*arguments, tmp_path / "signed.keras")
    assert result.exit_code == 1
    assert "one range of pixels" in result.output
    assert not (tmp_path / "out.png").exists()


def test_wrong_ranges_are_said_in_the_shells_terms(tmp_path):
    means().save(tmp_path / "model.keras")
    for text in ("1,0", "ten", "{"):
        result = run(
            *("export", tmp_path / "model.keras", tmp_path / "x"),
            *("--pixels", text),
        )
        assert result.exit_code == 1
        said = (f"--pixels '{text}'", f"from --pixels {text}")
        assert any(words in result.output for words in said), result.output
        assert "pixels=" not in result.output
    assert str(given_pixels("0,1")) == "0 to 1 (given by --pixels)"
