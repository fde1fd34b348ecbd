"""What the tests of the vision layers share."""

import keras
import numpy as np

from support.arrays import assert_close
from support.arrays import numpy

BACKEND = keras.backend.backend()


def image(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def build(layer, shape, seed=1):
    """Build `layer` and draw all of its weights at random."""
    layer.build(shape)
    return draw_weights(layer, seed)


def draw_weights(layer, seed=1):
    """Draw all weights at random, moving variances positive."""
    generator = np.random.default_rng(seed)
    for variable in layer.variables:
        if not variable.dtype.startswith("float"):
            continue
        value = generator.normal(size=variable.shape)
        if "variance" in variable.path:
            value = 0.5 + np.abs(value)
        variable.assign(value.astype("float32"))
    return layer


def graph_of_images(layer, channels):
    """A TensorFlow graph of outputs and scores, for images of any size."""
    import tensorflow as tf

    return tf.function(
        lambda x: layer(x, return_attention_scores=True),
        input_signature=[tf.TensorSpec((None, None, None, channels))],
    )


def assert_graph_takes(layer, channels, sizes):
    """Compare one graph for images of any size with calls at these sizes."""
    graph = graph_of_images(layer, channels)
    for size in sizes:
        x = image((2, *size, channels))
        for found, expected in zip(
            graph(x), layer(x, return_attention_scores=True), strict=True
        ):
            assert_close(found, expected)


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


def convolve(x, kernel, dilation=1):
    """A convolution at stride 1, zeros around: kernel `(K, K, in, out)`."""
    size = kernel.shape[0]
    reach = (size - 1) // 2 * dilation
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    height, width = x.shape[1:3]
    y = 0
    for row in range(size):
        for column in range(size):
            top, left = row * dilation, column * dilation
            window = padded[:, top : top + height, left : left + width]
            y = y + window @ kernel[row, column]
    return y


def block_diagonal(kernel, groups):
    """The kernel of a full convolution that equals a grouped one."""
    size, _, inputs, filters = kernel.shape
    full = np.zeros((size, size, inputs * groups, filters))
    width = filters // groups
    for g in range(groups):
        ours = slice(g * width, (g + 1) * width)
        full[:, :, g * inputs : (g + 1) * inputs, ours] = kernel[..., ours]
    return full


def normalize(x, norm, training=False):
    """Batch normalization over the last axis by a layer's values."""
    gamma, beta = numpy(norm.gamma), numpy(norm.beta)
    mean, variance = numpy(norm.moving_mean), numpy(norm.moving_variance)
    if training:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
    return (x - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta


def dense(x, layer):
    """A dense layer's product and bias, without its activation."""
    return x @ numpy(layer.kernel) + numpy(layer.bias)
