import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.gsop import covariance
from support.vision import build
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def features(x, layer, training=False):
    x = x.astype("float64")
    if layer.reduced_channels is not None:
        kernel = numpy(layer.reduce.kernel)[0, 0]
        x = relu(normalize(x @ kernel, layer.norm, training))
    return [covariance(one.reshape(-1, one.shape[-1]).T) for one in x]


def reference(x, layer, training=False):
    """Equations 2 to 6 of arXiv:1712.01034."""
    found = []
    for matrix in features(x, layer, training):
        identity = np.eye(len(matrix))
        y, z = matrix / np.trace(matrix), identity
        for _ in range(layer.iterations):
            y, z = (
                y @ (3 * identity - z @ y) / 2,
                (3 * identity - z @ y) @ z / 2,
            )
        root = np.sqrt(np.trace(matrix)) * y
        found.append(root[np.triu_indices(len(matrix))])
    return np.stack(found)


variants = pytest.mark.parametrize(
    "arguments", [{}, {"iterations": 3}, {"reduced_channels": None}]
)


def made(shape=SHAPE, **arguments):
    arguments = {"reduced_channels": 6, **arguments}
    return build(ka.CovariancePooling(**arguments), shape)


@variants
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(arguments, training):
    x = image(SHAPE)
    layer = made(**arguments)
    expected = reference(x, layer, training)
    y = numpy(layer(x, training=training))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_many_iterations_give_the_root_of_the_eigenvalues():
    x = image((2, 11, 13, 5))
    layer = made(x.shape, reduced_channels=None, iterations=15)
    for y, matrix in zip(numpy(layer(x)), features(x, layer), strict=True):
        values, vectors = np.linalg.eigh(matrix)
        root = vectors * np.sqrt(values) @ vectors.T
        np.testing.assert_allclose(y, root[np.triu_indices(5)], atol=1e-4)


def test_gradient():
    x = image((1, 3, 4, 3))
    for arguments in ({"reduced_channels": None}, {"reduced_channels": 2}):
        layer = made(x.shape, **arguments)
        dy = image(reference(x, layer).shape, seed=5)
        expected = numeric_gradient(lambda x: reference(x, layer), x, dy)  # noqa: B023
        np.testing.assert_allclose(
            numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=1e-4
        )


def test_fewer_positions_than_channels():
    layer = made((2, 2, 2, 11), reduced_channels=None)
    x = image((2, 2, 2, 11))
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (2, 1, 1, 3)])
def test_constant_image_pools_to_zero(shape):
    layer = ka.CovariancePooling(reduced_channels=None)
    x = np.full(shape, 3.0, "float32")
    assert (numpy(layer(x)) == 0).all()
    gradient = numpy(vjp(layer, x, np.ones((2, 6), "float32")))
    assert np.isfinite(gradient).all()


def test_float16_covariance_beyond_its_range():
    """A variance of 30,000 squared, whose root float16 holds again."""
    x = np.full((1, 4, 4, 2), 30_000, "float16")
    x[:, :2] *= -1
    layer = ka.CovariancePooling(
        reduced_channels=None, iterations=12, dtype="mixed_float16"
    )
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    expected = np.sqrt(2 * 30_000.0**2) / 2
    np.testing.assert_allclose(numpy(y), [[expected] * 3], rtol=1e-3)


def test_256_channels_make_32896_features():
    layer = ka.CovariancePooling()
    assert layer.compute_output_shape((None, 14, 14, 2048)) == (None, 32_896)
    layer.build((None, None, None, 2048))
    trainable = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert trainable == 2048 * 256 + 2 * 256


def test_without_reduction_there_are_no_weights():
    layer = made(reduced_channels=None)
    assert layer.weights == []
    assert layer.compute_output_shape(SHAPE) == (3, 66)
    layer = ka.CovariancePooling(None, data_format="channels_first")
    assert layer.compute_output_shape((3, 11, 7, 5)) == (3, 66)


def test_initializer_and_regularizer_reach_the_kernel():
    layer = ka.CovariancePooling(
        4,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
    )
    layer.build((None, None, None, 5))
    np.testing.assert_allclose(numpy(sum(layer.losses)), 0.5 * 20)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduced_channels": 0}, ValueError),
        ({"reduced_channels": 2.0}, TypeError),
        ({"iterations": 0}, ValueError),
        ({"iterations": None}, TypeError),
        ({"data_format": "NHWC"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.CovariancePooling(**arguments)


def test_bad_shapes():
    with pytest.raises(ValueError, match="rank 4"):
        ka.CovariancePooling().build((None, 8))
