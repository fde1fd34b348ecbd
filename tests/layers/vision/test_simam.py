import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import image
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def reference(x, regularization=1e-4):
    """Equation 5: 1 / e*, by the paper's mean and variance.

    e* = 4 (variance + λ) / (d² + 2 variance + 2 λ), so that the gate is
    sigmoid(d² / (4 (variance + λ)) + 1/2).
    """
    x = x.astype("float64")
    count = x.shape[1] * x.shape[2]
    d = (x - x.mean((1, 2), keepdims=True)) ** 2
    variance = d.sum((1, 2), keepdims=True) / (count - 1)
    energy = 4 * (variance + regularization)
    energy = energy / (d + 2 * variance + 2 * regularization)
    return x * sigmoid(1 / energy)


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 2, 3), (2, 13, 1, 3)])
@pytest.mark.parametrize("regularization", [1e-4, 0.5])
def test_equals_the_paper(shape, regularization):
    x = image(shape)
    layer = ka.SimAM(regularization)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, regularization), rtol=1e-5, atol=1e-5
    )
    assert layer.count_params() == 0


def test_worked_by_hand():
    """Mean 1, distances 1, 1, 1, 3, variance 12 / 3: 1/16 and 9/16, plus ½."""
    x = np.array([[[[0], [0]], [[0], [4]]]], "float32")
    gate = numpy(ka.SimAM(1e-9).compute_gate(x)).ravel()
    near, far = sigmoid(1 / 16 + 0.5), sigmoid(9 / 16 + 0.5)
    np.testing.assert_allclose(gate, [near, near, near, far], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float64"])
def test_one_position_and_constant_channels(dtype):
    layer = ka.SimAM(dtype=dtype)
    for shape in [(2, 1, 1, 3), (2, 7, 5, 3)]:
        gate = numpy(layer.compute_gate(np.full(shape, 7.0, "float32")))
        np.testing.assert_allclose(gate, sigmoid(0.5), rtol=1e-3)


def test_one_position_has_a_gradient():
    x, dy = image((2, 1, 1, 3)), image((2, 1, 1, 3), seed=5)
    np.testing.assert_allclose(
        numpy(vjp(ka.SimAM(), x, dy)), dy * sigmoid(0.5), rtol=1e-5
    )


def test_float16_squares_do_not_overflow():
    x = np.full((1, 57, 55, 2), 60_000.0, "float16")
    x[:, ::2] *= -1
    gate = numpy(ka.SimAM(dtype="mixed_float16").compute_gate(x))
    expected = reference(x) / x
    np.testing.assert_allclose(gate, expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"regularization": 0}, ValueError),
        ({"regularization": -1e-4}, ValueError),
        ({"regularization": float("nan")}, ValueError),
        ({"regularization": "1e-4"}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.SimAM(**arguments)


def test_bad_shape():
    with pytest.raises(ValueError, match="rank 3, 4 or 5"):
        ka.SimAM().build((None, 8))
