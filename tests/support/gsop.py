"""Second-order pooling in NumPy, one image at a time."""

import math

import numpy as np

from support.arrays import numpy
from support.vision import dense
from support.vision import normalize
from support.vision import relu
from support.vision import sigmoid


def covariance(features):
    """`(d, M)` to `(d, d)`: X (I - 11'/M)/M X', of arXiv:1811.12006."""
    count = features.shape[1]
    centring = (np.eye(count) - np.ones((count, count)) / count) / count
    return features @ centring @ features.T


def reduced(x, layer, strides, training):
    x = relu(x.astype("float64"))[:, ::strides, ::strides]
    kernel = numpy(layer.reduce.kernel)[0, 0]
    return normalize(
        x @ kernel + numpy(layer.reduce.bias), layer.norm, training
    )


def gate_logits(matrices, layer, activation, training):
    """Rows are normalized each by its own, and convolved each by its own."""
    rows = normalize(matrices.swapaxes(1, 2), layer.row_norm, training)
    rows = rows.swapaxes(1, 2)
    kernel = numpy(layer.row_convolution.kernel)
    bias = numpy(layer.row_convolution.bias)
    size, _, filters = kernel.shape
    q = np.zeros((len(rows), size * filters))
    for i in range(size):
        for n in range(filters):
            q[:, i * filters + n] = rows[:, i] @ kernel[i, :, n] + bias[i, n]
    return dense(activation(q), layer.expand)


def channel_gate(x, layer, training=False):
    features = relu(reduced(x, layer, layer.strides, training))
    matrices = np.stack(
        [covariance(one.reshape(-1, one.shape[-1]).T) for one in features]
    )
    logits = gate_logits(matrices, layer, layer_activation(layer), training)
    return sigmoid(logits)[:, None, None, :]


def layer_activation(layer):
    return np.tanh if layer.activation.__name__ == "tanh" else lambda q: q


def position_gate(x, layer, training=False):
    size = layer.grid_size
    features = adaptive(reduced(x, layer, 1, training), size, size)
    matrices = np.stack(
        [covariance(one.reshape(size * size, -1)) for one in features]
    )
    gate = sigmoid(gate_logits(matrices, layer, relu, training))
    gate = gate.reshape(-1, size, size, 1)
    return adaptive(gate, *x.shape[1:3])


def adaptive(x, height, width):
    found = np.zeros((x.shape[0], height, width, x.shape[3]))
    for i in range(height):
        top = math.floor(i * x.shape[1] / height)
        bottom = math.ceil((i + 1) * x.shape[1] / height)
        for j in range(width):
            left = math.floor(j * x.shape[2] / width)
            right = math.ceil((j + 1) * x.shape[2] / width)
            found[:, i, j] = x[:, top:bottom, left:right].mean((1, 2))
    return found


def temper(layer, factor=0.3):
    """Shrink all kernels, so that gates drawn at random do not saturate."""
    for variable in layer.trainable_variables:
        if "kernel" in variable.path:
            variable.assign(variable * factor)
    return layer
