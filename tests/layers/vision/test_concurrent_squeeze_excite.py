import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def reference(x, layer, combine):
    """arXiv:1803.02579, section 2; the maximum is that of 1808.08127."""
    x = x.astype("float64")
    excite, squeeze = layer.channel_excite, layer.spatial_excite.squeeze
    hidden = relu(dense(x.mean((1, 2)), excite.reduce))
    channel = sigmoid(dense(hidden, excite.expand))[:, None, None, :]
    kernel = numpy(squeeze.kernel)[0, 0]
    spatial = sigmoid(x @ kernel + numpy(squeeze.bias))
    scaled = x * channel, x * spatial
    return np.maximum(*scaled) if combine == "max" else sum(scaled)


@pytest.mark.parametrize("combine", ["max", "add"])
def test_equals_the_paper(combine):
    x = image(SHAPE)
    layer = build(ka.ConcurrentSqueezeExcite(3, combine), SHAPE)
    y = numpy(layer(x))
    np.testing.assert_allclose(
        y, reference(x, layer, combine), rtol=1e-5, atol=1e-5
    )
    # Both branches are taken, at both signs of the input.
    if combine == "max":
        channel = numpy(layer.channel_excite(x))
        for sign in (x > 0, x < 0):
            took_channel = np.isclose(y, channel)[sign]
            assert 0 < took_channel.mean() < 1


@pytest.mark.parametrize("combine", ["max", "add"])
def test_gradient(combine):
    x, dy = image((2, 3, 5, 4)), image((2, 3, 5, 4), seed=5)
    layer = build(ka.ConcurrentSqueezeExcite(2, combine), x.shape)
    expected = numeric_gradient(lambda x: reference(x, layer, combine), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-4, atol=1e-5
    )


def test_the_gates_range():
    x = 9 * image(SHAPE)
    for combine, largest in (("max", 1), ("add", 2)):
        layer = build(ka.ConcurrentSqueezeExcite(2, combine), SHAPE)
        gate = numpy(layer.compute_gate(x))
        assert largest - 1 < gate.max() <= largest and gate.min() >= 0


def test_number_of_parameters():
    layer = ka.ConcurrentSqueezeExcite()
    layer.build((None, None, None, 256))
    assert layer.count_params() == (2 * 256 * 128 + 128 + 256) + 257


def test_float16_extremes():
    layer = ka.ConcurrentSqueezeExcite(dtype="mixed_float16")
    x = image((1, 57, 55, 4)).clip(-1, 1).astype("float16") * 60_000
    layer.build(x.shape)
    assert np.isfinite(numpy(layer(x))).all()


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.ConcurrentSqueezeExcite(
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    expected = 0.5 * (2 * 6 * 3 + 6) + 0.25 * (3 + 6 + 1)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 2.0}, TypeError),
        ({"combine": "mean"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ConcurrentSqueezeExcite(**arguments)
