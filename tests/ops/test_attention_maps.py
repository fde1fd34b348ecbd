import keras
import numpy as np
import pytest

from keras_attention.ops.attention_maps import activation_maps
from keras_attention.ops.attention_maps import max_map
from keras_attention.ops.attention_maps import resize_maps
from keras_attention.ops.attention_maps import score_maps
from keras_attention.ops.attention_maps import sum_map
from keras_attention.ops.attention_maps import unit_maps
from support.arrays import numpy
from support.distillation import gradient


def activation(shape=(2, 3, 5, 7)):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_worked_by_hand():
    x = np.array([[[[3.0, -4.0], [0.0, 1.0]]]], "float32")  # [1, 1, 2, 2]
    np.testing.assert_allclose(numpy(sum_map(x, 1)), [[[7, 1]]])
    np.testing.assert_allclose(numpy(sum_map(x)), [[[25, 1]]])
    np.testing.assert_allclose(numpy(sum_map(x, 3)), [[[91, 1]]], rtol=1e-6)
    np.testing.assert_allclose(numpy(max_map(x, 1)), [[[4, 1]]])
    np.testing.assert_allclose(numpy(max_map(x)), [[[16, 1]]])
    unit = numpy(unit_maps(activation_maps(x)))
    np.testing.assert_allclose(unit, [[[25, 1] / np.sqrt(626)]], rtol=1e-6)


@pytest.mark.parametrize("power", [1, 1.5, 2, 3, 4])
def test_equal_to_numpy(power):
    x = activation()
    wide = np.abs(x.astype("float64")) ** power
    for found, expected in (
        (sum_map(x, power), wide.sum(-1)),
        (max_map(x, power), wide.max(-1)),
        (sum_map(np.moveaxis(x, -1, 1), power, 1), wide.sum(-1)),
    ):
        np.testing.assert_allclose(numpy(found), expected, rtol=2e-5)


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 3, 5, 7), (2, 2, 3, 2, 7)])
def test_unit_maps_have_length_one(shape):
    unit = numpy(unit_maps(activation_maps(activation(shape))))
    assert unit.shape == (2, 1, np.prod(shape[1:-1]))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("function", ["sum", "max"])
@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_zero_map_gives_zero_and_a_finite_gradient(function, power):
    x = np.zeros((1, 2, 3, 5), "float32")

    def unit(x):
        return unit_maps(activation_maps(x, function, power))

    np.testing.assert_array_equal(numpy(unit(x)), 0)
    assert np.isfinite(gradient(unit, x)).all()


def test_tiny_maps_are_not_blown_up():
    x = np.full((1, 2, 3, 1), 1e-8, "float32")
    np.testing.assert_allclose(
        numpy(unit_maps(activation_maps(x))), 1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(dtype):
    x = keras.ops.cast(np.full((1, 2, 2, 3), 300.0), dtype)
    found = sum_map(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(numpy(found), 3 * 300.0**2, rtol=5e-3)


def test_large_activations_do_not_overflow():
    x = np.full((1, 2, 2, 3), 1e9, "float32")
    unit = numpy(unit_maps(activation_maps(x, power=4)))
    np.testing.assert_allclose(unit, 0.5, rtol=1e-6)


def test_map_of_one_position_has_no_gradient():
    def unit(x):
        return unit_maps(activation_maps(x))

    x = activation((2, 1, 1, 3))
    np.testing.assert_allclose(numpy(unit(x)), 1, rtol=1e-6)
    np.testing.assert_allclose(gradient(unit, x), 0, atol=1e-6)


def test_resize_averages_what_a_position_covers():
    maps = np.arange(12, dtype="float32").reshape(1, 1, 3, 4)
    found = numpy(resize_maps(maps, (3, 2)))
    np.testing.assert_allclose(
        found[0, 0], [[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]
    )
    # Three rows onto two: the middle one is halved between them.
    found = numpy(resize_maps(maps, (2, 4)))
    np.testing.assert_allclose(
        found[0, 0],
        [(maps[0, 0, 0] * 2 + maps[0, 0, 1]) / 3,
         (maps[0, 0, 1] + maps[0, 0, 2] * 2) / 3],
        rtol=1e-6,
    )  # fmt: skip
    time = np.arange(10, dtype="float32").reshape(1, 2, 5)
    np.testing.assert_allclose(
        numpy(resize_maps(time, (1,))), [[[2], [7]]], rtol=1e-6
    )


def test_scores_are_maps():
    scores = np.random.default_rng(0).uniform(size=(2, 3, 5, 7))
    assert tuple(score_maps(scores).shape) == (2, 3, 5, 7)
    np.testing.assert_allclose(
        numpy(score_maps(scores, mean_of_heads=True)),
        scores.mean(1, keepdims=True),
        rtol=1e-6,
    )
