import keras
import numpy as np
import pytest

from keras_attention.ops.image.narrow_convolution import narrow_convolution
from support.arrays import numpy
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp

SHAPE = (2, 7, 5, 3)


def reference(x, kernel):
    """The sum that a convolution is, one tap at a time."""
    size, reach = kernel.shape[0], (kernel.shape[0] - 1) // 2
    around = [(0, 0), (reach, reach), (reach, reach), (0, 0)]
    padded = np.pad(x.astype("float64"), around)
    height, width = x.shape[1:3]
    return sum(
        padded[:, row : row + height, column : column + width]
        @ kernel[row, column].astype("float64")
        for row in range(size)
        for column in range(size)
    )


@pytest.mark.parametrize("size", [1, 3, 7, 11])
@pytest.mark.parametrize("filters", [1, 2])
def test_equals_the_sum(size, filters):
    x, kernel = image(SHAPE), image((size, size, 3, filters), seed=1)
    np.testing.assert_allclose(
        numpy(narrow_convolution(x, kernel)),
        reference(x, kernel),
        rtol=1e-5,
        atol=1e-5,
    )


def test_half_precision_is_summed_in_float32():
    x, kernel = np.full((1, 9, 9, 2), 60_000), np.full((9, 9, 2, 1), 1 / 162)
    y = narrow_convolution(x.astype("float16"), kernel.astype("float16"))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_allclose(numpy(y)[0, 4, 4, 0], 60_000, rtol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("filters", [1, 2])
def test_half_precision_has_gradients(dtype, filters):
    """torch's own convolution to one filter refuses them on the CPU."""
    x, kernel = image(SHAPE), image((3, 3, 3, filters), seed=1)
    upstream = image((*SHAPE[:3], filters), seed=2)
    values = {"x": x, "kernel": kernel}

    def convolve(**changed):
        tensors = {
            name: keras.ops.cast(value, dtype)
            for name, value in (values | changed).items()
        }
        y = narrow_convolution(**tensors)
        assert keras.backend.standardize_dtype(y.dtype) == dtype
        return keras.ops.cast(y, "float32")

    for name, value in values.items():
        found = vjp(lambda v, name=name: convolve(**{name: v}), value, upstream)
        expected = numeric_gradient(
            lambda v, name=name: reference(**(values | {name: v})),
            value,
            upstream,
        )
        np.testing.assert_allclose(
            numpy(found), expected, atol=2e-2 * np.abs(expected).max()
        )


@pytest.mark.tensorflow
def test_gradients():
    import tensorflow as tf

    x, kernel = image(SHAPE), image((5, 5, 3, 2), seed=1)
    upstream = image((*SHAPE[:3], 2), seed=2)
    values = [tf.constant(x), tf.constant(kernel)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = narrow_convolution(*values)
    of_x, of_kernel = tape.gradient(y, values, tf.constant(upstream))
    np.testing.assert_allclose(
        of_x,
        numeric_gradient(lambda x: reference(x, kernel), x, upstream),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        of_kernel,
        numeric_gradient(lambda k: reference(x, k), kernel, upstream),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.tensorflow
def test_the_gradient_can_be_differentiated():
    """With sum(conv(x, k)²) / 2, the second derivative by x is conv's own."""
    import tensorflow as tf

    x, kernel = image(SHAPE), image((3, 3, 3, 1), seed=1)
    direction = tf.constant(image(SHAPE, seed=3))
    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = narrow_convolution(x, kernel)
            loss = tf.reduce_sum(y**2) / 2
        slope = tf.reduce_sum(inner.gradient(loss, x) * direction)
    found = outer.gradient(slope, x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = narrow_convolution(x, kernel)
    moved = reference(direction.numpy(), kernel).astype("float32")
    np.testing.assert_allclose(
        found, tape.gradient(y, x, tf.constant(moved)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.tensorflow
@pytest.mark.slow
def test_unknown_sizes():
    import tensorflow as tf

    kernel = image((3, 3, 3, 1), seed=1)
    graph = tf.function(
        lambda x: narrow_convolution(x, kernel),
        input_signature=[tf.TensorSpec((None, None, None, 3))],
    )
    x = image(SHAPE)
    np.testing.assert_allclose(
        graph(x), reference(x, kernel), rtol=1e-5, atol=1e-5
    )
