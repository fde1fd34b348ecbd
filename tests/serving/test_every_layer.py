"""Every layer in every format: at open and fixed sizes, odd ones among them.

An export is verified before it appears, in the format's own runtime and at
several sizes; a layer that a format cannot hold is refused with the reason.
The table of `docs/how_to/serve.md` is what these tests find.
"""

import os
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.serving import export_for_serving
from keras_attention.serving import formats
from keras_attention.serving import read_signatures
from keras_attention.serving import run_export
from keras_attention.serving import verify_export

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
LAYERS = keras.layers
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "how_to" / "serve.md"


def needed(name):
    try:
        formats.check_format(name, verify=True)
    except ImportError as error:
        return pytest.param(name, marks=pytest.mark.skip(reason=str(error)))
    return name


FORMATS = list(map(needed, formats.FILES))

# Each layer with the sizes of its input; `None` for open ones.
OPEN, ODD = (None, None), (15, 13)
IMAGE_LAYERS = {
    "BAM": lambda: ka.BAM(2),
    "CBAM": lambda: ka.CBAM(2),
    "ChannelGSoP": lambda: ka.ChannelGSoP(4),
    "ConcurrentSqueezeExcite": lambda: ka.ConcurrentSqueezeExcite(2),
    "CoordinateAttention": lambda: ka.CoordinateAttention(2),
    "CovariancePooling": lambda: ka.CovariancePooling(),
    "EffectiveSqueezeExcite": lambda: ka.EffectiveSqueezeExcite(),
    "EfficientChannelAttention": lambda: ka.EfficientChannelAttention(),
    "GatedChannelTransformation": lambda: ka.GatedChannelTransformation(),
    "GatherExcite": lambda: ka.GatherExcite(4),
    "GlobalContext": lambda: ka.GlobalContext(2),
    "NonLocal": lambda: ka.NonLocal(),
    "SelectiveKernel": lambda: ka.SelectiveKernel(groups=2),
    "SimAM": lambda: ka.SimAM(),
    "SpatialSqueezeExcite": lambda: ka.SpatialSqueezeExcite(),
    "SqueezeExcite": lambda: ka.SqueezeExcite(2),
    "TripletAttention": lambda: ka.TripletAttention(),
}
SEQUENCE_LAYERS = {
    "DynamicConv1D": lambda: ka.DynamicConv1D(4, 5),
    "DynamicConv1D, renormalized": lambda: ka.DynamicConv1D(
        4, 5, renormalize_padding=True
    ),
    "LightweightConv1D": lambda: ka.LightweightConv1D(4, 5),
    "LightweightConv1D, renormalized": lambda: ka.LightweightConv1D(
        4, 5, renormalize_padding=True
    ),
    "MultiHeadAttention": lambda: ka.MultiHeadAttention(4),
    "MultiHeadAttention, causal": lambda: ka.MultiHeadAttention(
        4, causal=True, positions="rotary"
    ),
}
CASES = {
    **{
        (name, size): lambda make=make, size=size: (make(), (*size, 8))
        for name, make in IMAGE_LAYERS.items()
        for size in (OPEN, ODD)
    },
    **{
        (name, size): lambda make=make, size=size: (make(), (size, 16))
        for name, make in SEQUENCE_LAYERS.items()
        for size in (None, 9)
    },
}


def shape_of(sizes, number):
    batch, *open_sizes = ((2, 32, 32), (3, 37, 41), (1, 9, 7))[number]
    shape = [n or open_sizes[axis] for axis, n in enumerate(sizes)]
    return (batch, *shape)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_answers_at_several_sizes(tmp_path, format, case):
    layer, sizes = CASES[case]()
    x = keras.Input(sizes, name="x")
    model = keras.Model(x, {"K": layer(x)})
    path = export_for_serving(model, tmp_path, format=format, verify=False)
    for number in range(3):
        shape = shape_of(sizes, number)
        values = np.random.default_rng(number).normal(size=shape)
        values = values.astype("float32")
        expected = keras.ops.convert_to_numpy(
            model(values, training=False)["K"]
        )
        verify_export(path, {"x": values}, {"K": expected})


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


def test_the_documentation_lists_every_layer():
    rows = re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.M)
    assert set(rows) >= {name.split(",")[0] for name, _ in CASES}
