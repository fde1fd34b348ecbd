"""Sums of shifts beside Keras' convolution, and their gradients."""

import keras
import numpy as np
import pytest

from keras_attention.ops.image.strided_convolution import strided_depthwise
from support.arrays import numpy
from support.networks import first_of
from support.vision import image

pytestmark = pytest.mark.tensorflow
SIZES = [(7, 5), (8, 9), (3, 4)]


def expected(x, kernel):
    return keras.ops.depthwise_conv(
        x, kernel[..., None], 2, "valid", "channels_last"
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("taps", [1, 3])
def test_equals_the_convolution(size, taps):
    x, kernel = image((2, *size, 7)), image((taps, taps, 7), seed=1)
    np.testing.assert_allclose(
        numpy(strided_depthwise(x, kernel)),
        numpy(expected(x, kernel)),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("jit", "size"),
    first_of([(jit, size) for jit in (False, True) for size in SIZES], 4),
)
@pytest.mark.parametrize("taps", [1, 2, 3])
def test_gradients_of_both_orders(size, taps, jit):
    import tensorflow as tf

    def differentiate(convolve, x, kernel):
        with tf.GradientTape() as outer:
            outer.watch([x, kernel])
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                total = tf.reduce_sum(tf.sin(convolve(x, kernel)))
            once = tape.gradient(total, [x, kernel])
            squares = sum(tf.reduce_sum(tf.square(part)) for part in once)
        return *once, *outer.gradient(squares, [x, kernel])

    run = tf.function(
        lambda *values: differentiate(strided_depthwise, *values),
        jit_compile=jit,
    )
    x, kernel = image((2, *size, 5)), image((taps, taps, 5), seed=1)
    values = [tf.constant(x), tf.constant(kernel)]
    for found, wanted in zip(
        run(*values), differentiate(expected, *values), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_sizes_that_are_not_known():
    import tensorflow as tf

    x, kernel = image((2, 7, 6, 5)), tf.constant(image((3, 3, 5), seed=1))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 5))])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = strided_depthwise(x, kernel)
        return y, *tape.gradient(y, [x, kernel])

    with tf.GradientTape() as tape:
        values = [tf.constant(x), kernel]
        tape.watch(values)
        y = expected(*values)
    for found, wanted in zip(
        gradient(x), (y, *tape.gradient(y, values)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    x, kernel = np.full((1, 5, 5, 2), 60_000), np.full((3, 3, 2), 1 / 9)
    y = strided_depthwise(x.astype("float16"), kernel.astype("float16"))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_allclose(numpy(y), 60_000, rtol=2e-3)
