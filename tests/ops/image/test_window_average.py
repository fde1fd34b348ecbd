"""Averages of windows by blocks beside NumPy's, and their gradients."""

import keras
import numpy as np
import pytest

from keras_attention.ops.image import window_average
from keras_attention.ops.image.window_average import average_windows
from support.arrays import numpy
from support.networks import first_of
from support.vision import image

pytestmark = pytest.mark.tensorflow
CASES = [((6, 10), 2), ((12, 4), 4), ((8, 16), 8), ((2, 2), 2), ((3, 5), 1)]


@pytest.fixture(params=[True, False], ids=["convolution", "sums"])
def device(request, monkeypatch):
    monkeypatch.setattr(
        window_average, "multiplies_in_full", lambda: request.param
    )


def averaging_matrix(size, extent):
    """Row i averages the places less than `extent` from i times `extent`."""
    cells = extent * np.arange(size // extent)[:, None]
    inside = np.abs(np.arange(size) - cells) < extent
    return (inside / inside.sum(1, keepdims=True)).astype("float32")


def by_matrices(x, extent):
    rows, columns = (averaging_matrix(n, extent) for n in x.shape[1:3])
    return keras.ops.einsum("hr,brcn,wc->bhwn", rows, x, columns)


@pytest.mark.parametrize(("size", "extent"), CASES)
def test_equals_products_with_matrices(size, extent, device):
    x = image((2, *size, 7))
    found = average_windows(keras.ops.convert_to_tensor(x), extent)
    np.testing.assert_allclose(
        numpy(found), numpy(by_matrices(x, extent)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("jit", "size", "extent"),
    first_of([(jit, *case) for jit in (False, True) for case in CASES], 7),
)
def test_gradients_of_both_orders(size, extent, jit, device):
    import tensorflow as tf

    x = tf.constant(image((2, *size, 5)))

    def differentiate(pool, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(tf.sin(pool(x, extent)))
            once = tape.gradient(total, x)
            squares = tf.reduce_sum(tf.square(once))
        return once, outer.gradient(squares, x)

    run = tf.function(
        lambda x: differentiate(average_windows, x), jit_compile=jit
    )
    for found, wanted in zip(
        run(x), differentiate(by_matrices, x), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_batch_of_unknown_size():
    import tensorflow as tf

    run = tf.function(
        lambda x: average_windows(x, 2),
        input_signature=[tf.TensorSpec((None, 6, 4, 3))],
    )
    for batch in (1, 3):
        x = image((batch, 6, 4, 3))
        np.testing.assert_allclose(
            run(x), by_matrices(x, 2), rtol=1e-5, atol=1e-6
        )
