import keras
import numpy as np
import pytest

from keras_attention.ops.image import pooling
from support.arrays import numpy
from support.vision import vjp

SHAPE = (3, 7, 5, 11)
REFERENCES = {
    "avg": lambda x: x.mean((1, 2)),
    "max": lambda x: x.max((1, 2)),
    "lp": lambda x: np.sqrt((x**2).sum((1, 2))),
    "lse": lambda x: np.logaddexp.reduce(x, (1, 2)),
}
PRECISION = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}


def image(shape=SHAPE, dtype="float32"):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    return keras.ops.cast(x, dtype)


@pytest.mark.parametrize("pool_type", REFERENCES)
@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_global_pools(pool_type, dtype, data_format):
    x = image(dtype=dtype)
    expected = REFERENCES[pool_type](numpy(x))
    if data_format == "channels_first":
        x = keras.ops.moveaxis(x, -1, 1)
    pooled = pooling.GLOBAL_POOLS[pool_type](x, data_format)
    assert keras.backend.standardize_dtype(pooled.dtype) == dtype
    precision = PRECISION[dtype]
    np.testing.assert_allclose(
        numpy(pooled), expected, rtol=precision, atol=precision
    )


def test_all_pools_have_a_reference():
    assert set(pooling.GLOBAL_POOLS) == set(REFERENCES)


@pytest.mark.parametrize("value", [1e4, -1e4, 88.8, 0.0])
def test_log_sum_exp_is_stable(value):
    x = np.full((2, 3, 5, 7), value, "float32")
    pooled = numpy(pooling.global_log_sum_exp_pool(x))
    np.testing.assert_allclose(pooled, value + np.log(15), rtol=1e-6)
    # Its gradient is a softmax: here alike at all positions.
    gradient = vjp(pooling.global_log_sum_exp_pool, x, np.ones((2, 7), "f"))
    np.testing.assert_allclose(numpy(gradient), 1 / 15, rtol=1e-3)


def test_the_norm_of_nothing_has_no_gradient():
    x = np.array(image((2, 3, 5, 2)))
    x[..., 0] = 0
    dy = np.ones((2, 2), "float32")
    gradient = numpy(vjp(pooling.global_lp_pool, x, dy))
    norm = np.sqrt((x[..., 1] ** 2).sum((1, 2), keepdims=True))
    np.testing.assert_array_equal(gradient[..., 0], 0)
    np.testing.assert_allclose(gradient[..., 1], x[..., 1] / norm, rtol=1e-5)


@pytest.mark.parametrize("pool_type", REFERENCES)
def test_float16_does_not_overflow(pool_type):
    x = keras.ops.cast(np.full((1, 57, 55, 2), 65_504.0), "float16")
    pooled = numpy(pooling.GLOBAL_POOLS[pool_type](x))
    np.testing.assert_array_equal(pooled, 65_504)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_channel_max_and_mean(dtype, data_format):
    x = image(dtype=dtype)
    expected = np.stack([numpy(x).max(-1), numpy(x).mean(-1)], axis=-1)
    if data_format == "channels_first":
        x = keras.ops.moveaxis(x, -1, 1)
    pooled = pooling.channel_max_and_mean(x, data_format)
    assert keras.backend.standardize_dtype(pooled.dtype) == dtype
    precision = PRECISION[dtype]
    np.testing.assert_allclose(
        numpy(pooled), expected, rtol=precision, atol=precision
    )


def test_the_mean_over_channels_does_not_overflow():
    x = keras.ops.cast(np.full((1, 2, 3, 100), 60_000.0), "float16")
    np.testing.assert_array_equal(
        numpy(pooling.channel_max_and_mean(x)), 60_000
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "names", [("avg", "max"), ("max", "lp", "avg"), ("lse",)]
)
def test_global_pools_together(names, data_format):
    x = image()
    expected = np.stack([REFERENCES[name](numpy(x)) for name in names], 1)
    if data_format == "channels_first":
        x = keras.ops.moveaxis(x, -1, 1)
    pooled = pooling.global_pools(x, names, data_format)
    np.testing.assert_allclose(numpy(pooled), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("axes", [(1, 2), (2, 3), (-1,), (1,)])
def test_gradients_of_maximum_and_mean_are_the_automatic_ones(axes, jit):
    """First and second order, where maxima are equal, with an open batch."""
    import tensorflow as tf

    # Whole numbers: many are equal.
    x = tf.constant(np.round(numpy(image())))

    def ours(x):
        return pooling._max_and_mean_tensorflow(x, axes)

    def plain(x):
        return tf.reduce_max(x, axes), tf.reduce_mean(x, axes)

    def derivatives(function, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                maximum, mean = function(x)
                y = tf.sin(maximum) * mean**2
            first = inner.gradient(y, x)
            total = tf.reduce_sum(tf.sin(first))
        return maximum, mean, first, outer.gradient(total, x)

    run = tf.function(
        lambda x: derivatives(ours, x),
        jit_compile=jit,
        input_signature=[tf.TensorSpec((None, *SHAPE[1:]), "float64")],
    )
    for found, expected in zip(run(x), derivatives(plain, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("zeros", [[0, 1, 2], [1, 2, 3], [2, 3, 0]]),
        ("circular", [[3, 1, 2], [1, 2, 3], [2, 3, 1]]),
    ],
)
def test_channel_windows(padding, expected):
    x = np.array([[1, 2, 3]], "float32")
    windows = pooling.channel_windows(x, 3, padding)
    np.testing.assert_array_equal(numpy(windows), [expected])


def test_channel_windows_wider_than_the_channels():
    x = np.array([[1, 2]], "float32")
    zeros = numpy(pooling.channel_windows(x, 7))
    np.testing.assert_array_equal(
        zeros, [[[0, 0, 0, 1, 2, 0, 0], [0, 0, 1, 2, 0, 0, 0]]]
    )
    circular = numpy(pooling.channel_windows(x, 7, "circular"))
    np.testing.assert_array_equal(
        circular, [[[2, 1, 2, 1, 2, 1, 2], [1, 2, 1, 2, 1, 2, 1]]]
    )
