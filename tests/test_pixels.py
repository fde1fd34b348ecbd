"""The range of pixels of a model: recognized, stored, scaled."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import pixels
from keras_attention.commands.pixels import given_pixels

LAYERS = keras.layers
RAW, UNIT, SIGNED = "0 to 255", "0 to 1", "-1 to 1"


def sequential(*layers, shape=(8, 8, 3), dtype=None):
    """The layers before a convolution, which hides what comes after it."""
    return keras.Sequential(
        [
            keras.Input(shape, dtype=dtype),
            *layers,
            LAYERS.Conv2D(2, 3),
            LAYERS.Rescaling(1 / 255),
        ]
    )


def functional(scale, shape=(8, 8, 3)):
    image = keras.Input(shape)
    return keras.Model(image, LAYERS.Conv2D(2, 3)(scale(image)))


def nested():
    inner = sequential(LAYERS.Rescaling(1 / 127.5, -1))
    image = keras.Input((8, 8, 3))
    return keras.Model(image, inner(LAYERS.RandomFlip()(image)))


APPLICATIONS = keras.applications


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: sequential(LAYERS.Rescaling(1 / 255)), RAW),
        (lambda: sequential(LAYERS.Rescaling(1 / 127.5, -1)), RAW),
        (lambda: sequential(LAYERS.Rescaling(2.0, -1)), UNIT),
        (lambda: sequential(LAYERS.Rescaling(255.0)), UNIT),
        (lambda: sequential(LAYERS.Rescaling(0.5, 0.5)), SIGNED),
        (
            lambda: sequential(
                LAYERS.RandomFlip(),
                LAYERS.Resizing(9, 9),
                LAYERS.Rescaling(1 / 255),
            ),
            RAW,
        ),
        (
            lambda: sequential(
                LAYERS.Normalization(
                    mean=[123.0, 116.0, 103.0],
                    variance=[58.0**2, 57.0**2, 57.0**2],
                )
            ),
            RAW,
        ),
        (
            lambda: sequential(
                LAYERS.Normalization(mean=[0.48] * 3, variance=[0.05] * 3)
            ),
            UNIT,
        ),
        (lambda: functional(lambda x: x / 255.0), RAW),
        (lambda: functional(lambda x: (x - 127.5) / 127.5), RAW),
        (lambda: functional(lambda x: (x - 0.5) * 2.0), UNIT),
        (lambda: functional(APPLICATIONS.mobilenet_v2.preprocess_input), RAW),
        (lambda: functional(APPLICATIONS.resnet50.preprocess_input), RAW),
        (lambda: functional(APPLICATIONS.densenet.preprocess_input), RAW),
        (nested, RAW),
        (lambda: sequential(dtype="uint8"), RAW),
    ],
)
def test_what_is_inside_a_model_tells_its_range(make, expected):
    found = ka.find_pixel_range(make())
    assert str(found.pixels) == expected and not found.assumed


@pytest.mark.parametrize(
    "make",
    [
        sequential,
        lambda: sequential(LAYERS.BatchNormalization()),
        lambda: sequential(LAYERS.Normalization()),
        lambda: functional(lambda x: x * 1.0),
    ],
)
def test_where_nothing_is_known_it_is_said(make):
    found = ka.find_pixel_range(make())
    assert found.assumed and str(found.pixels) == UNIT
    assert "assumed" in str(found)


@pytest.mark.slow
def test_networks_with_preprocessing_inside():
    for name in ("MobileNetV3Small", "EfficientNetV2B0"):
        network = getattr(APPLICATIONS, name)
        model = network(weights=None, input_shape=(32, 32, 3))
        assert str(ka.find_pixel_range(model).pixels) == RAW
        plain = network(
            weights=None, input_shape=(32, 32, 3), include_preprocessing=False
        )
        assert ka.find_pixel_range(plain).assumed


@pytest.mark.parametrize("name", pixels.NAMED)
def test_a_range_survives_saving(tmp_path, name):
    model = sequential()
    path = tmp_path / "model.keras"
    ka.set_pixel_range(model, name)
    ka.save_model(model, path)
    assert ka.find_pixel_range(ka.load_model(path)).pixels == pixels.NAMED[name]
    # Keras' own loader reads the file too, in which it is one more member.
    plain = keras.saving.load_model(path)
    assert ka.find_pixel_range(plain).assumed
    x = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(x)),
        keras.ops.convert_to_numpy(plain(x)),
    )


def test_a_stored_range_is_before_a_recognized_one(tmp_path):
    model = sequential(LAYERS.Rescaling(1 / 255))
    ka.set_pixel_range(model, "0,1")
    assert str(ka.find_pixel_range(model).pixels) == UNIT


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        '{"pixels": 3}',
        '{"pixels": {"minimum": "a"}}',
        '{"pixels": {"std": [0]}}',
        '{"pixels": {"other": 1}}',
        "[" * 20_000,
    ],
)
def test_a_damaged_record(tmp_path, record):
    path = tmp_path / "model.keras"
    sequential().save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(pixels.RECORD, record)
    with pytest.raises(ValueError, match="model.keras.*damaged"):
        ka.load_model(path)


def test_scaling_is_that_of_keras_applications():
    images = np.random.default_rng(1).integers(256, size=(2, 5, 7, 3))
    images = images.astype("uint8")
    for name, mode in (("-1,1", "tf"), ("imagenet", "torch"), ("caffe",) * 2):
        expected = APPLICATIONS.imagenet_utils.preprocess_input(
            images.astype("float32"), mode=mode
        )
        found = ka.PixelRange.parse(name).scale_images(images)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_texts_and_json_are_one_range():
    for name, expected in pixels.NAMED.items():
        text = json.dumps(expected.to_json())
        assert ka.PixelRange.parse(text) == ka.PixelRange.parse(name)
        assert ka.PixelRange(**expected.to_json()) == expected
    found = ka.PixelRange.parse("-0.5,0.5")
    assert (found.minimum, found.maximum) == (-0.5, 0.5)
    assert found.limits() == (-0.5, 0.5)


@pytest.mark.parametrize(
    "text", ["0", "a,b", "{", "0,1,2", "", '{"means": [1]}']
)
def test_texts_that_are_no_range(text):
    with pytest.raises(ValueError, match="MINIMUM,MAXIMUM"):
        ka.PixelRange.parse(text)


@pytest.mark.parametrize("text", ["1,0", '{"minimum": 1}'])
def test_texts_of_an_empty_range(text):
    with pytest.raises(ValueError, match="`minimum` must be smaller than"):
        ka.PixelRange.parse(text)
    with pytest.raises(ValueError, match=re.escape(f"(from --pixels {text})")):
        given_pixels(text)


def test_wrong_ranges():
    with pytest.raises(TypeError, match="pixels"):
        ka.PixelRange.parse(1 / 255)
    with pytest.raises(ValueError, match="smaller than"):
        ka.PixelRange(1, 1)
    with pytest.raises(TypeError, match="`mean`"):
        ka.PixelRange(mean=0.5)
    with pytest.raises(ValueError, match="each channel"):
        ka.PixelRange(mean=[1, 2], std=[1, 2, 3])
    with pytest.raises(ValueError, match="channel_order"):
        ka.PixelRange(channel_order="gbr")
    with pytest.raises(ValueError, match="each channel of the images, 1"):
        ka.PixelRange.parse("imagenet").scale_images(np.zeros((1, 2, 2, 1)))
    with pytest.raises(TypeError, match="keras.Model"):
        ka.set_pixel_range("model", "0,1")
    with pytest.raises(ValueError, match="end in .keras"):
        ka.save_model(sequential(), "model.h5")
