import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.gsop import channel_gate
from support.gsop import temper
from support.vision import build
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp

SHAPE = (3, 7, 5, 11)
variants = pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"strides": 2},
        {"strides": 3, "expansion": 2, "activation": "tanh"},
    ],
)


def made(shape=SHAPE, **arguments):
    arguments = {"reduced_channels": 6, **arguments}
    return temper(build(ka.ChannelGSoP(**arguments), shape))


@variants
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(arguments, training):
    x = image(SHAPE)
    layer = made(**arguments)
    expected = channel_gate(x, layer, training)
    assert expected.std() > 0.05
    gate = numpy(layer.compute_gate(x, training=training))
    np.testing.assert_allclose(gate, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        numpy(layer(x)), x * channel_gate(x, layer), rtol=1e-4, atol=1e-5
    )


def test_worked_by_hand():
    """d = 2, one filter; S = [[1, -2], [-2, 4]] of (1, 3) and (4, 0).

    Row 0 sums to -1, row 1 to 2; the second channel's logit is their sum.
    """
    layer = ka.ChannelGSoP(2, expansion=1)
    x = np.array([[[[1, 4], [3, 0]]]], "float32")
    layer.build(x.shape)
    layer.reduce.kernel.assign(np.eye(2)[None, None])
    layer.row_convolution.kernel.assign(np.ones((2, 2, 1)))
    layer.expand.kernel.assign([[0.0, 1.0], [0.0, 1.0]])
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, [0.5, 1 / (1 + np.exp(-1))], atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_gradient(strides):
    shape = (1, 3, 4, 4)
    x, dy = image(shape), image(shape, seed=5)
    layer = made(shape, reduced_channels=3, strides=strides)
    expected = numeric_gradient(lambda x: x * channel_gate(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=1e-4
    )


def test_training_moves_all_statistics():
    layer = made()
    norms = [layer.norm, layer.row_norm]
    before = [numpy(norm.moving_variance) for norm in norms]
    layer(image(SHAPE), training=True)
    for norm, old in zip(norms, before, strict=True):
        assert (numpy(norm.moving_variance) != old).all(), norm.name


def test_float16_covariance_beyond_its_range():
    """Variances of 10,000 squared, normalized in float32."""
    x = np.full((1, 4, 4, 2), 20_000, "float16")
    x[:, :2] = 0
    layer = ka.ChannelGSoP(2, expansion=1, dtype="mixed_float16")
    layer.build(x.shape)
    assert layer.row_norm.compute_dtype == "float32"
    layer.reduce.kernel.assign(np.eye(2)[None, None])
    layer.row_norm.moving_variance.assign([1e16, 1e16])
    layer.row_convolution.kernel.assign(np.ones((2, 2, 1)) / 4)
    layer.expand.kernel.assign(np.ones((2, 2)))
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, 1 / (1 + np.exp(-1)), atol=2e-3)


def test_large_means_do_not_reach_the_gate():
    x = image((2, 9, 7, 3), dtype="float64")
    layer = made(x.shape, reduced_channels=3)
    layer.reduce.kernel.assign(np.eye(3)[None, None])
    layer.norm.gamma.assign(np.ones(3))
    expected = channel_gate(x + 3000, layer)
    gate = numpy(layer.compute_gate((x + 3000).astype("float32")))
    np.testing.assert_allclose(gate, expected, atol=2e-3)


def test_constant_image():
    layer = made()
    assert np.isfinite(numpy(layer(np.full(SHAPE, 3.0, "float32")))).all()


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.ChannelGSoP(
        3,
        expansion=2,
        kernel_initializer=keras.initializers.RandomNormal(),
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 5))
    sublayers = [layer.reduce, layer.row_convolution, layer.expand]
    for sublayer in sublayers:
        assert (numpy(sublayer.bias) == 1).all()
    expected = sum(0.5 * (numpy(s.kernel) ** 2).sum() for s in sublayers)
    expected += 0.25 * (3 + 6 + 5)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduced_channels": 0}, ValueError),
        ({"reduced_channels": None}, TypeError),
        ({"expansion": 0}, ValueError),
        ({"expansion": 1.5}, TypeError),
        ({"strides": 0}, ValueError),
        ({"strides": (1, 1)}, TypeError),
        ({"data_format": "NHWC"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ChannelGSoP(**arguments)


def test_unknown_activation():
    with pytest.raises(ValueError, match="reluu"):
        ka.ChannelGSoP(activation="reluu")


def test_bad_shapes():
    with pytest.raises(ValueError, match="rank 4"):
        ka.ChannelGSoP().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.ChannelGSoP().build((None, 8, 8, None))
