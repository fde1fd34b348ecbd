"""What the tests of the vision layers share."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


def numpy(x):
    return keras.ops.convert_to_numpy(x).astype("float64")


def image(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def build(layer, shape, seed=1):
    """Build `layer` and draw all of its weights at random.

    Moving variances are drawn positive.
    """
    layer.build(shape)
    generator = np.random.default_rng(seed)
    for variable in layer.variables:
        if not variable.dtype.startswith("float"):
            continue
        value = generator.normal(size=variable.shape)
        if "variance" in variable.path:
            value = 0.5 + np.abs(value)
        variable.assign(value.astype("float32"))
    return layer


def vjp(function, x, dy):
    """The gradient of `sum(dy * function(x))` to `x`, on any backend."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x) * tf.convert_to_tensor(dy))
        return tape.gradient(total, x)
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda x: (function(x) * dy).sum())(x)
    x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
    (function(x) * keras.ops.convert_to_tensor(dy)).sum().backward()
    return x.grad


def numeric_gradient(function, x, dy, step=1e-6):
    """The gradient of `sum(dy * function(x))` by central differences."""
    x = x.astype("float64")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[index] = step
        difference = function(x + shift) - function(x - shift)
        gradient[index] = (dy * difference).sum() / (2 * step)
    return gradient


def first(x):
    """The channels-first copy of a channels-last image."""
    return np.moveaxis(x, -1, 1)
