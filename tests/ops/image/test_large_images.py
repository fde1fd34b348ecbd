"""Means over images of a million positions are right to 1e-5.

Adding the positions one after the other gives 0.10099 for the mean of 0.1.
"""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_attention as ka
from keras_attention.ops.image.channel_norms import channel_norms
from keras_attention.ops.image.covariance import channel_covariance
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import means_and_image
from keras_attention.ops.image.grid_pooling import adaptive_average_pool
from keras_attention.ops.image.grid_pooling import weighted_sum
from keras_attention.ops.image.pairwise import softmax_pool
from keras_attention.ops.image.pooling import global_pools
from keras_attention.ops.image.pooling import max_and_mean
from keras_attention.ops.image.simam import simam
from keras_attention.ops.image.sums import mean_over
from support.arrays import numpy
from support.networks import first_of

# Torch compiles nothing of its own here.
COMPILED = [False, True] if keras.backend.backend() != "torch" else [False]
SIZES = {"even": (1024, 1024), "prime": (1021, 1031)}


def images(size):
    generator = np.random.default_rng(0)
    constant = np.full((1, *size, 2), 0.1, "float32")
    # Of one sign, so that the rounding does not cancel.
    varied = 0.1 + 0.01 * generator.random((1, *size, 2), dtype="float32")
    return {"constant": constant, "varied": varied}


def first(function):
    """The function of a channels-first image, given a channels-last one."""
    return lambda x: function(ops.moveaxis(x, -1, 1), "channels_first")


def ones(x):
    return x[..., 0] * 0


def mean(x):
    return x.mean((1, 2))


def centered_square(x):
    return np.square(x - x.mean((1, 2), keepdims=True))


# What is computed, and what it is in float64.
CASES = {
    "mean": (global_average_pool, mean),
    "mean, channels first": (first(global_average_pool), mean),
    "gate's mean": (lambda x: means_and_image(x)[0], mean),
    "gate's mean, channels first": (
        first(lambda x, data_format: means_and_image(x, data_format)[0]),
        mean,
    ),
    "poolings": (
        lambda x: global_pools(x, ("avg", "lp", "lse"))[:, 0],
        mean,
    ),
    "norm": (
        lambda x: global_pools(x, ("lp",))[:, 0],
        lambda x: np.sqrt(np.square(x).sum((1, 2))),
    ),
    "logarithm of exponentials": (
        # The exponential makes its error relative.
        lambda x: ops.exp(global_pools(x, ("lse",))[:, 0] - 13.0),
        lambda x: np.exp(x).sum((1, 2)) / np.exp(13.0),
    ),
    "rows": (lambda x: mean_over(x, 2), lambda x: x.mean(2)),
    "columns": (lambda x: mean_over(x, 1), lambda x: x.mean(1)),
    "rows, with maximum": (
        lambda x: max_and_mean(x, 1)[..., 1],
        lambda x: x.mean(1),
    ),
    "sizes of channels": (
        lambda x: channel_norms(x, "l2", 1e-5),
        lambda x: np.sqrt(np.square(x).sum((1, 2)) + 1e-5),
    ),
    "absolute sizes": (
        lambda x: channel_norms(x, "l1", 1e-5),
        lambda x: np.abs(x).sum((1, 2)),
    ),
    "attended mean": (lambda x: softmax_pool(x, ones(x))[0], mean),
    "weighted sum": (
        lambda x: weighted_sum(x, ops.ones_like(x[0]))[:, 0, 0],
        lambda x: x.sum((1, 2)),
    ),
    "grid": (lambda x: adaptive_average_pool(x, 1, 1)[:, 0, 0], mean),
}


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("size", first_of(SIZES, 1))
def test_means_of_large_images(size, compiled):
    for kind, x in images(SIZES[size]).items():
        for name, (function, reference) in CASES.items():
            y = numpy(run(function, x, compiled))
            expected = reference(x.astype("float64"))
            np.testing.assert_allclose(
                y, expected, rtol=1e-5, err_msg=f"{name} of {kind}"
            )


@pytest.mark.parametrize("compiled", COMPILED)
def test_spread_of_large_images(compiled):
    """Covariance and SimAM's gate, which subtract the mean first."""
    x = images((1024, 1024))["varied"]
    wide = x.astype("float64")[0].reshape(-1, 2)
    expected = np.cov(wide, rowvar=False, bias=True)
    found = numpy(run(channel_covariance, x, compiled))[0]
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-4)
    squares = centered_square(x.astype("float64"))
    variance = squares.sum((1, 2), keepdims=True) / (1024**2 - 1)
    energy = squares / (4 * (variance + 1e-4)) + 0.5
    gate = numpy(run(simam, x, compiled))
    np.testing.assert_allclose(gate, 1 / (1 + np.exp(-energy)), rtol=1e-5)


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize(
    "size", [(7, 5), (14, 14), (53, 59), (112, 112), (256, 251), (257, 3)]
)
def test_means_of_usual_images(size, compiled):
    """One sum of 3,000 times 0.1, one after the other, is off by 3e-5."""
    functions = (CASES["mean"][0], CASES["gate's mean"][0])
    for kind, x in images(size).items():
        for function in functions:
            y = numpy(run(function, x, compiled))
            expected = mean(x.astype("float64"))
            np.testing.assert_allclose(y, expected, rtol=5e-6, err_msg=kind)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    x = ops.cast(np.full((1, 1024, 1024, 1), 0.1, "float32"), dtype)
    y = numpy(global_average_pool(x))
    np.testing.assert_array_equal(y, numpy(x)[:, 0, 0])


def test_a_layer_of_unknown_size():
    """The graph of a model that takes every size."""
    inputs = keras.Input((None, None, 1))
    layer = ka.SqueezeExcite(1, use_bias=False, kernel_initializer="ones")
    model = keras.Model(inputs, layer(inputs))
    x = np.full((1, 1024, 1024, 1), 0.1, "float32")
    expected = 0.1 / (1 + np.exp(-0.1))
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def run(function, x, compiled):
    if not compiled:
        return function(ops.convert_to_tensor(x))
    return compile_function(function)(x)


@functools.cache
def compile_function(function):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    import jax

    return jax.jit(function)
