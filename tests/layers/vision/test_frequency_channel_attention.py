import functools
import itertools

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.layers.vision.frequency_channel_attention import BEST
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image
from support.vision import relu
from support.vision import sigmoid


def transform(x, u, v):
    """The orthonormal two-dimensional DCT of `(B, H, W, c)` at (u, v)."""
    height, width = x.shape[1:3]
    total = np.zeros((len(x), x.shape[-1]))
    for i, j in itertools.product(range(height), range(width)):
        row = np.cos(np.pi * u * (i + 0.5) / height) / np.sqrt(height)
        column = np.cos(np.pi * v * (j + 0.5) / width) / np.sqrt(width)
        norm = np.sqrt(2.0) ** ((u > 0) + (v > 0))
        total += x[:, i, j] * row * column * norm
    return total


def reference(x, layer, pairs):
    """Section 3: a frequency for each group of channels, then SE."""
    x = x.astype("float64")
    height, width = x.shape[1:3]
    coefficients = [
        transform(group, u * (height // 7), v * (width // 7))
        for group, (u, v) in zip(
            np.split(x, len(pairs), axis=-1), pairs, strict=True
        )
    ]
    z = np.concatenate(coefficients, axis=-1)
    hidden = relu(z @ numpy(layer.reduce.kernel))
    return x * sigmoid(hidden @ numpy(layer.expand.kernel))[:, None, None]


@pytest.mark.parametrize(
    ("frequencies", "shape"),
    [
        (16, (2, 7, 9, 32)),
        (4, (1, 14, 28, 12)),
        ([(0, 0), (6, 3), (1, 5)], (3, 11, 7, 3)),
    ],
)
def test_equals_the_paper(frequencies, shape):
    x = image(shape)
    layer = build(ka.FrequencyChannelAttention(4, frequencies), shape)
    is_number = isinstance(frequencies, int)
    pairs = BEST[:frequencies] if is_number else frequencies
    expected = reference(x, layer, pairs)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-4)
    layer_first = ka.FrequencyChannelAttention(
        4, frequencies, data_format="channels_first"
    )
    layer_first.build(first(x).shape)
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(first(x))), first(expected), rtol=1e-4, atol=1e-4
    )


def test_the_transform_is_orthonormal():
    """Of all frequencies, the squares of the coefficients add up to those."""
    x = image((2, 7, 7, 1))
    pairs = list(itertools.product(range(7), repeat=2))
    layer = ka.FrequencyChannelAttention(1, pairs)
    layer.build((None, 7, 7, 49))
    basis = layer._basis.reshape(49, 49) / 7
    np.testing.assert_allclose(basis.T @ basis, np.eye(49), atol=1e-12)
    found = x.reshape(2, 49) @ basis
    expected = np.stack([transform(x, u, v)[:, 0] for u, v in pairs], -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_best_frequencies():
    """All different; the first is the average pooling of SE."""
    assert len(set(BEST)) == len(BEST) == 32
    assert BEST[:4] == ((0, 0), (0, 1), (6, 0), (0, 5))
    x = image((2, 7, 7, 16))
    fca = ka.FrequencyChannelAttention(4, 1)
    se = ka.SqueezeExcite(4, use_bias=False)
    for layer in (fca, se):
        build(layer, x.shape)
    fca.reduce.kernel.assign(fca.reduce.kernel / 7)  # √49 times the mean.
    np.testing.assert_allclose(numpy(fca(x)), numpy(se(x)), rtol=1e-5)


def test_images_of_another_size():
    """They are averaged to the size that the layer was built for."""
    x = image((2, 14, 21, 8))
    layer = build(ka.FrequencyChannelAttention(4, 4), (None, 7, 7, 8))
    cells = x.reshape(2, 7, 2, 7, 3, 8).mean((2, 4))
    expected = x * numpy(layer.compute_gate(cells))
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-6)
    small = image((2, 1, 7, 8))
    expected = small * numpy(layer.compute_gate(np.repeat(small, 7, axis=1)))
    np.testing.assert_allclose(
        numpy(layer(small)), expected, rtol=1e-5, atol=1e-6
    )
    inputs = keras.Input((None, None, 8))
    open_layer = ka.FrequencyChannelAttention(4, 4, grid_size=7)
    model = keras.Model(inputs, open_layer(inputs))
    open_layer.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy(model(x)), numpy(layer(x)), rtol=1e-5)


def test_parameters_are_those_of_se_without_biases():
    """FcaNet-50 has the 28.07M of the paper."""
    total = 25_557_032
    for channels, size, blocks in [
        (256, 56, 3),
        (512, 28, 4),
        (1024, 14, 6),
        (2048, 7, 3),
    ]:
        layer = ka.FrequencyChannelAttention()
        layer.build((None, size, size, channels))
        assert layer.count_params() == 2 * channels * (channels // 16)
        total += blocks * layer.count_params()
    assert total == 28_071_976


def test_float16_at_its_limits():
    """The coefficient of 60,000 on 56 x 56 is 56 times that."""
    x = np.full((1, 56, 56, 4), 60_000.0, "float16")
    layer = ka.FrequencyChannelAttention(2, 1, dtype="mixed_float16")
    build(layer, x.shape)
    for sublayer in (layer.reduce, layer.expand):
        sublayer.kernel.assign(5e-4 * sublayer.kernel)
    expected = reference(x, layer, BEST[:1])
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-2)


@pytest.mark.tensorflow
def test_insertion():
    """Small features have their grid given, or are refused."""
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="at least 7.*grid_size=7"):
        ka.insert_attention(model, "fca")
    attention = functools.partial(ka.FrequencyChannelAttention, grid_size=7)
    gated = ka.insert_attention(model, attention, preserve_outputs=True)
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, None, 7, 32), "grid_size=None"),
        ((None, 7, 5, 32), "at least 7.*'fca'"),
        ((None, 7, 7, 24), "`frequencies` must divide.*such as 8"),
    ],
)
def test_shapes_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        ka.FrequencyChannelAttention(name="fca").build(shape)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"frequencies": 33}, ValueError),
        ({"frequencies": 0}, ValueError),
        ({"frequencies": 2.0}, TypeError),
        ({"frequencies": []}, ValueError),
        ({"frequencies": [(0, 7)]}, ValueError),
        ({"frequencies": [0, 1]}, ValueError),
        ({"grid_size": 6}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.FrequencyChannelAttention(**arguments)
