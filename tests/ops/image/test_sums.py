"""Sums by products with ones equal NumPy's, under XLA and where ones round."""

import numpy as np
import pytest
from keras import ops

from keras_attention.ops.image import sums


@pytest.fixture(params=[True, False], ids=["product", "sum"])
def device(request, monkeypatch):
    monkeypatch.setattr(sums, "multiplies_in_full", lambda: request.param)


@pytest.mark.parametrize("size", [7, 256, 1021, 1022, 5003, 4096, 65_537])
def test_rows_equal_numpy(device, size):
    """Whole, in equal parts, and in parts of different sizes."""
    x = np.random.default_rng(0).uniform(1, 2, size=(3, size, 5))
    total = sums.sum_rows(ops.convert_to_tensor(x.astype("float32")))
    np.testing.assert_allclose(
        ops.convert_to_numpy(total), x.sum(1, keepdims=True), rtol=1e-5
    )


@pytest.mark.parametrize("size", [1_000_000, 1_000_003])
def test_a_million_equal_numbers(size):
    """Each rounding errs the same way: 16 parts were off by 1.01e-5."""
    x = np.full((1, size, 2), 0.1, "float32")
    total = ops.convert_to_numpy(sums.sum_rows(ops.convert_to_tensor(x)))
    expected = x.astype("float64").sum(1, keepdims=True)
    np.testing.assert_allclose(total, expected, rtol=5e-6)


@pytest.mark.parametrize("compiled", [True, False])
def test_channels_equal_numpy(device, compiled, monkeypatch):
    monkeypatch.setattr(sums, "inside_xla", lambda: compiled)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype("float32")
    total = ops.convert_to_numpy(sums.sum_channels(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(
        total, x.sum(-1, keepdims=True), rtol=1e-5, atol=1e-6
    )


def test_empty_batch_and_no_rows(device):
    assert sums.sum_rows(ops.zeros((0, 7, 5))).shape == (0, 1, 5)
    total = ops.convert_to_numpy(sums.sum_rows(ops.zeros((2, 0, 5))))
    np.testing.assert_array_equal(total, np.zeros((2, 1, 5)))


@pytest.mark.tensorflow
def test_images_and_sequences_of_open_sizes():
    """One sum of a million times 0.1 is off by 6e-4."""
    import tensorflow as tf

    image = tf.TensorSpec((None, None, None, 2))
    sequence = tf.TensorSpec((None, None, 2))
    for spec, axes, shapes in (
        (image, (1, 2), [(1, 1000, 1000, 2), (2, 257, 1, 2), (3, 7, 11, 2)]),
        (sequence, (1,), [(1, 1_000_000, 2), (2, 4097, 2), (0, 3, 2)]),
    ):

        @tf.function(input_signature=[spec])
        def mean(x, axes=axes):
            return sums.mean_over_positions(x, axes)

        for shape in shapes:
            x = np.full(shape, 0.1, "float32")
            expected = x.astype("float64").mean(axes)
            np.testing.assert_allclose(mean(x), expected, rtol=1e-5)
            x = np.random.default_rng(0).random(shape, dtype="float32")
            expected = x.astype("float64").mean(axes)
            np.testing.assert_allclose(mean(x), expected, rtol=1e-5)
        assert np.isnan(mean(np.zeros((1, *[0] * len(axes), 2)))).all()
