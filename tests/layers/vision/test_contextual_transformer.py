import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops.image.local_convolution import local_convolution
from support.arrays import numpy
from support.vision import block_diagonal
from support.vision import build
from support.vision import convolve
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import normalize
from support.vision import relu
from support.vision import sigmoid

SHAPE = (2, 7, 5, 16)


def group_norm(x, norm):
    """Of each group of channels and all positions, image by image."""
    groups = np.split(x, norm.groups, axis=-1)
    normal = [
        (g - g.mean((1, 2, 3), keepdims=True))
        / np.sqrt(g.var((1, 2, 3), keepdims=True) + norm.epsilon)
        for g in groups
    ]
    y = np.concatenate(normal, axis=-1)
    return y * numpy(norm.gamma) + numpy(norm.beta)


def sum_neighbors(values, kernels, size):
    """Position by position; channel c has the kernel c modulo their number."""
    _, height, width, channels = values.shape
    y = np.zeros_like(values)
    reach = size // 2
    for row, column, c in np.ndindex(height, width, channels):
        kernel = kernels[:, row, column, c % kernels.shape[3]]
        for tap in range(size**2):
            r, w = row + tap // size - reach, column + tap % size - reach
            if 0 <= r < height and 0 <= w < width:
                y[:, row, column, c] += kernel[:, tap] * values[:, r, w, c]
    return y


def reference(x, layer, training=False):
    """Section 3.2 of arXiv:2107.12292, as in the docstring."""
    x = x.astype("float64")
    kernel = block_diagonal(numpy(layer.key.kernel), layer.groups)
    k = relu(normalize(convolve(x, kernel), layer.key_norm, training))
    hidden = np.concatenate([x, k], axis=-1) @ numpy(layer.reduce.kernel)
    hidden = relu(normalize(hidden, layer.reduce_norm, training))
    a = group_norm(dense(hidden, layer.weigh), layer.weigh_norm)
    a = a.reshape(*x.shape[:3], -1, layer.kernel_size**2)
    v = x @ numpy(layer.value.kernel)
    v = normalize(v, layer.value_norm, training)
    d = sum_neighbors(v, a, layer.kernel_size)
    d = normalize(d, layer.context_norm, training)
    d = d * sigmoid(d)
    z = dense((d + k).mean((1, 2)), layer.fuse_reduce)
    z = relu(normalize(z, layer.fuse_norm, training))
    logits = dense(z, layer.fuse_expand).reshape(len(x), -1, 2)
    s = np.exp(logits - logits.max(-1, keepdims=True))
    s = (s / s.sum(-1, keepdims=True)).swapaxes(1, 2)
    return s[:, 0, None, None] * d + s[:, 1, None, None] * k, s


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"kernel_size": 5, "groups": 2, "shared_channels": 4},
        {"groups": 1, "shared_channels": 1, "ratio": 3, "min_units": 3},
        {"shared_channels": 16, "kernel_size": 1, "fusion_ratio": 1},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(arguments, training):
    x = image(SHAPE)
    layer = build(ka.ContextualTransformer(**arguments), SHAPE)
    expected = reference(x, layer, training)
    found = layer(x, training=training, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-3, atol=1e-3)
    assert tuple(found[1].shape) == layer.compute_scores_shape(SHAPE)
    if training:
        return
    other = ka.ContextualTransformer(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected[0]), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 1)])
def test_images_smaller_than_the_kernel(size):
    x = image((2, *size, 8))
    layer = build(ka.ContextualTransformer(5), x.shape)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer)[0], rtol=1e-3, atol=1e-3
    )


def test_local_convolution_worked_by_hand():
    """A kernel of one tap moves the image; another position has another."""
    x = np.arange(1, 5, dtype="float32").reshape(1, 2, 2, 1, 1)
    kernels = np.zeros((1, 2, 2, 1, 1, 9), "float32")
    kernels[..., 5] = 1  # To the right of the center.
    kernels[0, 1, 1, 0, 0] = 1
    tensors = map(keras.ops.convert_to_tensor, (x, kernels))
    y = numpy(local_convolution(*tensors))
    np.testing.assert_array_equal(y.ravel(), [2, 0, 4, 1 + 2 + 3 + 4])


@pytest.mark.parametrize("channels", [64, 40])
def test_parameters(channels):
    """CoTNet's: 9 C² / 4, C², C², K² C / 8 and the fusion."""
    layer = ka.ContextualTransformer()
    layer.build((None, None, None, channels))
    half, kernels = channels // 2, 9 * channels // 8
    units = max(channels // 2, 32)
    expected = 9 * channels**2 // 4 + 2 * channels  # k
    expected += 2 * channels * half + 2 * half + (half + 3) * kernels  # a
    expected += channels**2 + 2 * channels + 2 * channels  # v, d
    expected += (channels + 3) * units + (units + 1) * 2 * channels
    found = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert found == expected


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "cot", ["conv"], preserve_outputs=True)
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kernel_size": 2}, ValueError),
        ({"groups": 0}, ValueError),
        ({"shared_channels": 8.0}, TypeError),
        ({"ratio": 0}, ValueError),
        ({"fusion_ratio": 0}, ValueError),
        ({"min_units": 0}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ContextualTransformer(**arguments)


@pytest.mark.parametrize("channels", [12, 6])
def test_channels_that_are_not_divided(channels):
    layer = ka.ContextualTransformer(name="cot")
    with pytest.raises(ValueError, match=f"{channels} channels.*'cot'"):
        layer.build((None, 7, 5, channels))
