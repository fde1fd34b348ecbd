import contextlib

import keras
import numpy as np
import pytest

import keras_attention as ka
from conformance.harness import float64_mode
from support.arrays import numpy

SHAPE = (2, 7, 5, 6)


def image(seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(dtype)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "mixed_float16", "mixed_bfloat16"]
)
def test_is_the_identity_at_first(dtype):
    wide = float64_mode() if dtype == "float64" else contextlib.nullcontext()
    with wide:
        layer = ka.BlendIn(ka.SqueezeExcite(ratio=2, dtype=dtype), dtype=dtype)
        x = keras.ops.cast(image(), layer.compute_dtype)
        y = layer(x)
        assert bool(keras.ops.all(x == y)) and y.dtype == x.dtype
        assert layer.alpha.dtype == layer.variable_dtype


@pytest.mark.parametrize("alpha", [-0.5, 0.25, 1.0])
def test_blends_linearly(alpha):
    layer = ka.BlendIn(ka.SqueezeExcite(ratio=2))
    x = image()
    layer(x)
    layer.alpha.assign(alpha)
    expected = (1 - alpha) * x + alpha * numpy(layer.layer(x))
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-6)


def test_any_layer_and_rank_and_the_training_mode():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    layer = ka.BlendIn(keras.layers.BatchNormalization())
    layer(x)
    layer.alpha.assign(1.0)
    np.testing.assert_allclose(
        numpy(layer(x, training=True)).mean(0), 0, atol=1e-5
    )
    assert np.abs(numpy(layer(x)).mean(0)).max() > 1e-3


def test_layer_that_is_built_already():
    inner = ka.SqueezeExcite(ratio=2)
    inner.build(SHAPE)
    layer = ka.BlendIn(inner)
    layer(image())
    assert layer.count_params() == inner.count_params() + 1


def test_not_a_layer():
    with pytest.raises(TypeError, match="`layer`.*Received: layer='se'"):
        ka.BlendIn("se")


def test_layer_that_changes_the_shape():
    layer = ka.BlendIn(keras.layers.Conv2D(3, 1, name="conv"))
    with pytest.raises(ValueError, match="'conv' of type Conv2D"):
        layer.build(SHAPE)
