import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def reference(x, layer):
    """Section 3: embedding, channel normalization with its √C, gating."""
    x = x.astype("float64")
    alpha, gamma, beta = map(numpy, (layer.alpha, layer.gamma, layer.beta))
    channels = x.shape[-1]
    if layer.norm == "l2":
        s = alpha * np.sqrt((x**2).sum((1, 2)) + layer.epsilon)
        # √C / ‖s‖, with epsilon inside the sum of C squares.
        whole = np.sqrt((s**2).sum(-1) + channels * layer.epsilon)
        n = np.sqrt(channels) * s / whole[:, None]
    else:
        s = alpha * np.abs(x).sum((1, 2))
        whole = np.abs(s).sum(-1) + channels * layer.epsilon
        n = channels * s / whole[:, None]
    return x * (1 + np.tanh(gamma * n + beta))[:, None, None]


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1, 3), (2, 13, 1, 1)])
def test_equals_the_paper(norm, shape):
    x = image(shape)
    layer = build(ka.GatedChannelTransformation(norm, 0.5), shape)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-5, atol=1e-5
    )
    assert layer.count_params() == 3 * shape[-1]


def test_worked_by_hand():
    """Sizes 3 and 4: 3 / √12.5 and 4 / √12.5."""
    x = np.array([[[[3, 0]], [[0, 4]]]], "float32")
    layer = ka.GatedChannelTransformation(
        epsilon=1e-12, gamma_initializer="ones"
    )
    expected = 1 + np.tanh(np.array([3, 4]) / np.sqrt(12.5))
    found = numpy(layer(x)).sum((1, 2))[0]
    np.testing.assert_allclose(found, expected * [3, 4], rtol=1e-6)


def test_starts_as_the_identity():
    x = image(SHAPE)
    np.testing.assert_array_equal(numpy(ka.GatedChannelTransformation()(x)), x)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_gradient(norm):
    shape = (2, 3, 5, 4)
    x, dy = image(shape), image(shape, seed=5)
    layer = build(ka.GatedChannelTransformation(norm), shape)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)),
        numeric_gradient(lambda x: reference(x, layer), x, dy),
        rtol=1e-3,
        atol=1e-4,
    )


def test_zeros_have_a_gradient():
    x, dy = np.zeros((2, 3, 5, 4), "float32"), image((2, 3, 5, 4))
    layer = build(ka.GatedChannelTransformation(), x.shape)
    expected = dy * (1 + np.tanh(reference_bias(layer)))
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-5, atol=1e-6
    )


def reference_bias(layer):
    """What the tanh is of where x is zero: every size is α √epsilon."""
    alpha, gamma, beta = map(numpy, (layer.alpha, layer.gamma, layer.beta))
    s = alpha * np.sqrt(layer.epsilon)
    return gamma * s / np.sqrt((s**2).mean() + layer.epsilon) + beta


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_float16_sums_do_not_overflow(norm):
    x = image((1, 57, 55, 5)).astype("float16") * np.float16(10_000)
    layer = ka.GatedChannelTransformation(norm, dtype="mixed_float16")
    build(layer, x.shape)
    gate = numpy(layer(x)) / x
    expected = reference(x, layer) / x
    np.testing.assert_allclose(gate, expected, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"norm": "l3"}, ValueError),
        ({"epsilon": 0}, ValueError),
        ({"epsilon": "1e-5"}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.GatedChannelTransformation(**arguments)


def test_bad_shape():
    with pytest.raises(ValueError, match="rank 3, 4 or 5"):
        ka.GatedChannelTransformation().build((None, 8))
