import keras
import numpy as np
import pytest

from conformance.harness import float64_mode
from keras_attention.ops.image import covariance
from support.arrays import numpy
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def tensor(x):
    return keras.ops.convert_to_tensor(x.astype("float32"))


def reference(features):
    """Equation 1 of arXiv:1811.12006; `features` is d by M."""
    columns = features.shape[1]
    centring = np.eye(columns) - np.ones((columns, columns)) / columns
    return features @ (centring / columns) @ features.T


def positive(size, batch=3, seed=0):
    x = image((batch, size, 2 * size), seed, "float64")
    return x @ x.swapaxes(1, 2) / (2 * size)


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    values = np.sqrt(np.maximum(values, 0))[:, None, :]
    return (vectors * values) @ vectors.swapaxes(1, 2)


def test_channel_covariance():
    x = image(SHAPE, dtype="float64")
    expected = [reference(one.reshape(-1, 11).T) for one in x]
    found = covariance.channel_covariance(tensor(x))
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5, atol=1e-6)


def test_position_covariance():
    x = image(SHAPE, dtype="float64")
    expected = [reference(one.reshape(-1, 11)) for one in x]
    found = covariance.position_covariance(tensor(x))
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5, atol=1e-6)


def test_worked_by_hand():
    """Channels (1, 3) and (2, -2): deviations (-1, 1) and (2, -2)."""
    x = np.array([[[[1, 2], [3, -2]]]], "float32")
    found = numpy(covariance.channel_covariance(tensor(x)))
    np.testing.assert_allclose(found, [[[1, -2], [-2, 4]]])
    found = numpy(covariance.position_covariance(tensor(x)))
    np.testing.assert_allclose(found, [[[0.25, -1.25], [-1.25, 6.25]]])


@pytest.mark.parametrize(
    "function",
    [covariance.channel_covariance, covariance.position_covariance],
)
def test_one_position_or_channel_has_no_covariance(function):
    x = (
        image((2, 1, 1, 3))
        if "channel" in function.__name__
        else image((2, 2, 3, 1))
    )
    assert (numpy(function(tensor(x))) == 0).all()


def test_large_means_cost_no_digits():
    """The second moment minus the squared mean would be off by hundreds."""
    x = image((2, 57, 55, 3), dtype="float64")
    expected = [reference(one.reshape(-1, 3).T) for one in x[:, :19, :17]]
    shifted = (x + 10_000).astype("float32")
    seen = shifted.astype("float64")[:, :19, :17]
    exact = [reference(one.reshape(-1, 3).T) for one in seen]
    found = numpy(covariance.channel_covariance(tensor(shifted[:, :19, :17])))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    second = np.einsum("bhwi,bhwj->bij", shifted, shifted) / (57 * 55)
    mean = shifted.mean((1, 2))
    assert np.abs(second - mean[:, :, None] * mean[:, None, :]).max() > 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    x = np.full((1, 8, 8, 2), 30_000.0)
    x[:, :4] *= -1
    x[..., 1] *= -1
    found = covariance.channel_covariance(keras.ops.cast(x, dtype))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    value = float(np.abs(numpy(keras.ops.cast(x, dtype))).max()) ** 2
    np.testing.assert_allclose(
        numpy(found), [[[value, -value], [-value, value]]], rtol=1e-6
    )
    found = covariance.position_covariance(keras.ops.cast(x, dtype))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(np.abs(numpy(found)), value, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [covariance.channel_covariance, covariance.position_covariance],
)
def test_gradient_of_covariance(function):
    x = image((2, 3, 2, 4))
    size = 4 if "channel" in function.__name__ else 6
    dy = image((2, size, size), seed=5)

    def exact(x):
        flat = [one.reshape(-1, 4) for one in x]
        flat = [f.T for f in flat] if size == 4 else flat
        return np.stack([reference(f) for f in flat])

    np.testing.assert_allclose(
        numpy(vjp(function, x, dy)),
        numeric_gradient(exact, x, dy),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("iterations", "precision"), [(3, 0.3), (5, 0.08), (15, 2e-5)]
)
def test_square_root_approaches_that_of_the_eigenvalues(iterations, precision):
    matrix = positive(7)
    found = numpy(
        covariance.newton_schulz_square_root(tensor(matrix), iterations)
    )
    np.testing.assert_allclose(found, root(matrix), atol=precision)


def test_square_root_step_by_step():
    """Equation 5 of arXiv:1712.01034, with nothing left out."""
    matrix, identity = positive(5), np.eye(5)
    for iterations in (1, 2, 3, 5):
        trace = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
        y, z = matrix / trace, np.broadcast_to(identity, matrix.shape)
        for _ in range(iterations):
            y, z = (
                y @ (3 * identity - z @ y) / 2,
                (3 * identity - z @ y) @ z / 2,
            )
        found = covariance.newton_schulz_square_root(tensor(matrix), iterations)
        np.testing.assert_allclose(
            numpy(found), y * np.sqrt(trace), rtol=1e-4, atol=1e-5
        )


def test_square_root_of_known_matrices():
    one = np.array([[[9.0]]], "float32")
    np.testing.assert_allclose(
        numpy(covariance.newton_schulz_square_root(tensor(one), 1)), [[[3]]]
    )
    scaled = 4e6 * np.eye(2, dtype="float32")[None]
    np.testing.assert_allclose(
        numpy(covariance.newton_schulz_square_root(tensor(scaled), 9)),
        2e3 * np.eye(2)[None],
        rtol=1e-5,
    )


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_square_root_follows_the_scale(scale):
    matrix = positive(5).astype("float32")
    plain = numpy(covariance.newton_schulz_square_root(tensor(matrix)))
    scaled = numpy(covariance.newton_schulz_square_root(tensor(scale * matrix)))
    np.testing.assert_allclose(
        scaled / np.sqrt(scale), plain, rtol=1e-4, atol=1e-5
    )


def test_zero_matrix_has_a_root_and_a_gradient():
    matrix = np.zeros((2, 3, 3), "float32")
    function = covariance.newton_schulz_square_root
    assert (numpy(function(tensor(matrix))) == 0).all()
    assert np.isfinite(numpy(vjp(function, matrix, np.ones_like(matrix)))).all()


def test_singular_matrix_keeps_its_zeros():
    """Fewer positions than channels, as at the end of a network."""
    features = image((1, 9, 4), dtype="float64")
    matrix = features @ features.swapaxes(1, 2)
    found = numpy(covariance.newton_schulz_square_root(tensor(matrix), 12))
    np.testing.assert_allclose(found, root(matrix), atol=2e-3)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_gradient_of_the_square_root(iterations):
    matrix = positive(3, batch=2)
    dy = image((2, 3, 3), seed=5)

    def exact(matrix):
        trace = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
        y, z = matrix / trace, np.broadcast_to(np.eye(3), matrix.shape)
        for _ in range(iterations):
            p = 1.5 * np.eye(3) - z @ y / 2
            y, z = y @ p, p @ z
        return y * np.sqrt(trace)

    found = vjp(
        lambda m: covariance.newton_schulz_square_root(m, iterations),
        matrix.astype("float32"),
        dy,
    )
    np.testing.assert_allclose(
        numpy(found), numeric_gradient(exact, matrix, dy), rtol=1e-3, atol=1e-4
    )


def test_float64_stays():
    x = image(SHAPE, dtype="float64")
    expected = np.stack([reference(one.reshape(-1, 11).T) for one in x])
    with float64_mode():
        matrix = covariance.channel_covariance(keras.ops.convert_to_tensor(x))
        found = covariance.newton_schulz_square_root(matrix, 25)
        assert keras.backend.standardize_dtype(found.dtype) == "float64"
        np.testing.assert_allclose(numpy(matrix), expected, atol=1e-13)
        np.testing.assert_allclose(numpy(found), root(expected), atol=1e-11)


def test_upper_triangle():
    matrix = np.arange(18, dtype="float32").reshape(2, 3, 3)
    found = numpy(covariance.upper_triangle(tensor(matrix)))
    assert found.tolist() == [[0, 1, 2, 4, 5, 8], [9, 10, 11, 13, 14, 17]]
    assert covariance.upper_triangle(tensor(np.zeros((1, 256, 256)))).shape == (
        1,
        32_896,
    )
