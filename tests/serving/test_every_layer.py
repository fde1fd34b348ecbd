"""Every layer in every format: at open and fixed sizes, odd ones among them.

An export is verified before it appears, in the format's own runtime and at
several sizes; a layer that a format cannot hold is refused with the reason.
The table of `docs/how_to/serve.md` is written from `layer_formats.py`, which
declares what is refused; these tests find it to be so.
"""

import os

import keras
import numpy as np
import pytest

import keras_attention as ka
from conformance.harness import make_model
from conformance.rows import ROWS
from keras_attention.serving import export_for_serving
from keras_attention.serving import formats
from keras_attention.serving import read_signatures
from keras_attention.serving import run_export
from keras_attention.serving import verify_export
from serving import layer_formats

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
LAYERS = keras.layers


def needed(name):
    try:
        formats.check_format(name, verify=True)
    except ImportError as error:
        return pytest.param(name, marks=pytest.mark.skip(reason=str(error)))
    return name


FORMATS = list(map(needed, formats.FILES))

# Each layer at open and at fixed sizes; its variants at open ones.
CASES = [
    pytest.param(
        row, is_open, id=f"{row.name}-{'open' if is_open else 'fixed'}"
    )
    for row in ROWS
    for is_open in (True, False)
    if (is_open and not row.static_size)
    or (not is_open and (row.static_size or not row.variant))
]


def shapes(row, is_open):
    """Several shapes of an input, odd sizes among them."""
    *sizes, channels = row.shape[1:]
    if not is_open:
        return [(batch, *sizes, channels) for batch in (2, 3, 1)]
    volumes = (2, 32, 32, 4), (3, 37, 41, 5), (1, 9, 7, 3)
    return [(*shape[: len(sizes) + 1], channels) for shape in volumes]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("row, is_open", CASES)
def test_answers_at_several_sizes(tmp_path, format, row, is_open):
    model = make_model(row, dynamic=is_open)
    refused = dict(layer_formats.REFUSED)
    if is_open:
        refused |= layer_formats.REFUSED_OPEN
    if (row.name, format) in refused:
        with pytest.raises(ValueError, match="cannot be written"):
            export_for_serving(model, tmp_path, format=format)
        return
    path = export_for_serving(model, tmp_path, format=format, verify=False)
    for number, shape in enumerate(shapes(row, is_open)):
        values = np.random.default_rng(number).normal(size=shape)
        values = values.astype("float32")
        expected = keras.ops.convert_to_numpy(model(values, training=False))
        verify_export(path, {"x": values}, {"layer": expected})


@pytest.mark.parametrize("format", FORMATS)
def test_names_are_kept(tmp_path, format):
    x = keras.Input((4,), name="x")
    a, b = (LAYERS.Dense(n, name=f"d{n}")(x) for n in (2, 3))
    model = keras.Model(x, {"K": a, "deep": {"er": b}})
    path = export_for_serving(model, tmp_path, format=format)
    known = read_signatures(path)["serving_default"]
    assert set(known["outputs"]) == {"K", "deep_er"}
    assert set(known["inputs"]) == {"x"}
    values = np.ones((3, 4), "float32")
    found = run_export(path, {"x": values})
    np.testing.assert_allclose(found["K"], model(values)["K"], rtol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'serving_default'"):
        run_export(path, {"x": values}, "serving_defualt")


@pytest.mark.parametrize("format", FORMATS)
def test_inference_mode(tmp_path, format):
    image = keras.Input((6, 5, 3), name="image")
    x = LAYERS.RandomFlip(seed=1)(image)
    x = LAYERS.GaussianNoise(1.0, seed=1)(LAYERS.Dropout(0.5, seed=1)(x))
    x = LAYERS.BatchNormalization()(x)
    model = keras.Model(image, LAYERS.Rescaling(2.0, name="twice")(x))
    path = export_for_serving(model, tmp_path, format=format)
    values = np.random.default_rng(0).normal(size=(2, 6, 5, 3))
    values = values.astype("float32")
    found = run_export(path, {"image": values})
    np.testing.assert_allclose(
        found["twice"], model(values, training=False), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_sequential_model_built_by_one_example(tmp_path, format):
    model = keras.Sequential([LAYERS.Dense(3, name="head")])
    model(np.ones((1, 4), "float32"))
    path = export_for_serving(model, tmp_path, format=format)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    (name,) = read_signatures(path)["serving_default"]["inputs"]
    found = run_export(path, {name: x})
    np.testing.assert_allclose(found["head"], model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("format", FORMATS)
def test_means_that_were_adapted(tmp_path, format):
    """Tensors that a layer keeps are constants, and no inputs."""
    layer = LAYERS.Normalization(name="norm")
    data = np.random.default_rng(0).normal(3, 2, (50, 8)).astype("float32")
    layer.adapt(data)
    before = layer.mean
    model = keras.Sequential([keras.Input((8,), name="x"), layer])
    path = export_for_serving(model, tmp_path, format=format)
    assert layer.mean is before
    assert set(read_signatures(path)["serving_default"]["inputs"]) == {"x"}
    found = run_export(path, {"x": data[:3]})
    np.testing.assert_allclose(
        found["norm"], model(data[:3]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("format", FORMATS)
def test_the_range_of_pixels_is_stored(tmp_path, format):
    image = keras.Input((6, 5, 3), name="image")
    model = keras.Model(image, LAYERS.Conv2D(2, 3, name="conv")(image))
    ka.set_pixel_range(model, "imagenet")
    path = export_for_serving(model, tmp_path, format=format)
    assert ka.pixels.read_record(path) == ka.PixelRange.parse("imagenet")
    assert "keras_attention.json" in os.listdir(path)


@pytest.mark.parametrize("format", FORMATS)
def test_a_difference_at_an_odd_size_is_found(tmp_path, format):
    """An operation that a converter fixes at the size that it is shown."""

    @keras.saving.register_keras_serializable("test")
    class Rounds(LAYERS.Layer):
        def call(self, x):
            import tensorflow as tf

            extra = 0.0 if tf.executing_eagerly() else 1.0
            odd = keras.ops.shape(x)[1] % 2
            return x + extra * keras.ops.cast(odd, "float32")

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, Rounds(name="rounds")(x))
    with pytest.raises(ValueError, match=r"\(3, 37, 3\).*differs by up to 1"):
        export_for_serving(model, tmp_path, format=format)
    assert not os.listdir(tmp_path)
