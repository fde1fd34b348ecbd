import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import convolve
from support.vision import image
from support.vision import normalize
from support.vision import sigmoid

SHAPE = (3, 7, 5, 11)


def reference_gate(x, layer, training=False):
    """Equation 3 of arXiv:1807.06521, with the authors' normalization."""
    x = x.astype("float64")
    pooled = np.stack([x.max(-1), x.mean(-1)], axis=-1)
    logits = convolve(pooled, numpy(layer.convolution.kernel))
    return sigmoid(normalize(logits, layer.norm, training))


def reference(x, layer, training=False):
    return x * reference_gate(x, layer, training)


@pytest.mark.parametrize("kernel_size", [1, 3, 7, 11])
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(kernel_size, training):
    x = image(SHAPE)
    layer = build(ka.SpatialAttention(kernel_size), SHAPE)
    expected = reference(x, layer, training)
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, rtol=1e-5, atol=1e-5
    )


def test_worked_by_hand():
    """The maximum is the first input channel of the kernel."""
    layer = ka.SpatialAttention(kernel_size=1, gamma_initializer="ones")
    x = np.array([[[[1, 5], [-4, 2]]]], "float32")
    layer.build(x.shape)
    layer.convolution.kernel.assign(np.reshape([1.0, 10.0], (1, 1, 2, 1)))
    gate = numpy(layer.compute_gate(x)).ravel()
    logits = np.array([5 + 30, 2 - 10]) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(gate, sigmoid(logits), rtol=1e-5)


def test_the_gate_starts_at_a_half_and_learns():
    layer = ka.SpatialAttention()
    x = image(SHAPE)
    model = keras.Sequential([layer])
    np.testing.assert_array_equal(numpy(layer(x)), x / 2)
    # The first steps to the kernel are as small as gamma is.
    model.compile(keras.optimizers.SGD(10.0), "mse")
    model.train_on_batch(x, np.zeros(SHAPE))
    assert numpy(layer.norm.gamma).item() != 0
    kernel = numpy(layer.convolution.kernel)
    model.train_on_batch(x, np.zeros(SHAPE))
    assert (numpy(layer.convolution.kernel) != kernel).any()


def test_gamma_may_start_at_one():
    layer = ka.SpatialAttention(gamma_initializer="ones")
    layer.build(SHAPE)
    gate = numpy(layer.compute_gate(image(SHAPE)))
    assert gate.std() > 0.01


def test_training_moves_the_statistics():
    layer = build(ka.SpatialAttention(), SHAPE)
    x, norm = image(SHAPE), layer.norm
    pooled = np.stack([x.max(-1), x.mean(-1)], axis=-1).astype("float64")
    mean = convolve(pooled, numpy(layer.convolution.kernel)).mean()
    before = numpy(norm.moving_mean).item()
    layer(x, training=False)
    assert numpy(norm.moving_mean).item() == before
    layer(x, training=True)
    np.testing.assert_allclose(
        numpy(norm.moving_mean).item(),
        0.99 * before + 0.01 * mean,
        rtol=1e-5,
    )


@pytest.mark.parametrize(("kernel_size", "count"), [(7, 100), (3, 20)])
def test_number_of_parameters(kernel_size, count):
    layer = ka.SpatialAttention(kernel_size)
    layer.build((None, None, None, 256))
    trainable = [w.shape for w in layer.trainable_weights]
    assert sum(map(np.prod, trainable)) == count


@pytest.mark.parametrize("value", [6e-8, 60_000.0])
def test_float16_extremes(value):
    layer = ka.SpatialAttention(3, "ones", dtype="mixed_float16")
    x = np.full((1, 5, 7, 100), value, "float16")
    layer.build(x.shape)
    kernel = np.zeros((3, 3, 2, 1))
    kernel[1, 1, :, 0] = 1 / 60_000
    layer.convolution.kernel.assign(kernel)
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate, sigmoid(2 * value / 60_000), rtol=2e-3)


def test_initializers_and_regularizers_reach_the_kernel():
    layer = ka.SpatialAttention(
        3,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
    )
    layer.build((None, None, None, 6))
    np.testing.assert_allclose(numpy(sum(layer.losses)), 9, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kernel_size": 4}, ValueError),
        ({"kernel_size": 0}, ValueError),
        ({"kernel_size": (7, 7)}, TypeError),
        ({"data_format": "NHWC"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.SpatialAttention(**arguments)


def test_an_argument_that_it_has_no_use_for():
    with pytest.raises(ValueError, match="bias_initializer"):
        ka.SpatialAttention(bias_initializer="ones")
