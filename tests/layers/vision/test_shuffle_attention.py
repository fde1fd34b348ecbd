import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image
from support.vision import sigmoid


def reference(x, layer, groups):
    """Equations 1 to 4, one group after the other, channels last."""
    x = x.astype("float64")
    w = {name: numpy(getattr(layer, name)) for name in vars_of(layer)}
    outputs = []
    for group in np.split(x, groups, axis=-1):
        x1, x2 = np.split(group, 2, axis=-1)
        s = x1.mean((1, 2), keepdims=True)
        x1 = x1 * sigmoid(w["channel_scale"] * s + w["channel_bias"])
        mean = x2.mean((1, 2), keepdims=True)
        variance = x2.var((1, 2), keepdims=True)
        norm = (x2 - mean) / np.sqrt(variance + layer.epsilon)
        norm = norm * w["gamma"] + w["beta"]
        x2 = x2 * sigmoid(w["spatial_scale"] * norm + w["spatial_bias"])
        outputs += [x1, x2]
    y = np.concatenate(outputs, axis=-1)
    # Channel shuffle: the two halves of all channels take turns.
    front, back = np.split(y, 2, axis=-1)
    return np.stack([front, back], axis=-1).reshape(y.shape)


def vars_of(layer):
    return [weight.name for weight in layer.weights]


@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        (3, (2, 7, 5, 12)),
        (1, (1, 5, 3, 2)),
        (5, (3, 1, 11, 30)),
        (4, (2, 1, 1, 24)),
    ],
)
def test_equals_the_paper(groups, shape):
    x = image(shape)
    layer = build(ka.ShuffleAttention(groups), shape)
    expected = reference(x, layer, groups)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    layer_first = ka.ShuffleAttention(groups, data_format="channels_first")
    layer_first.build(first(x).shape)
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(first(x))), first(expected), rtol=1e-5, atol=1e-5
    )


def test_the_order_of_the_channels():
    """At first both gates are sigmoid(1): only the order is left."""
    x = np.arange(8, dtype="float32").reshape(1, 1, 1, 8)
    y = numpy(ka.ShuffleAttention(2)(x)).ravel() / sigmoid(1.0)
    np.testing.assert_allclose(y, [0, 4, 1, 5, 2, 6, 3, 7], rtol=1e-6)


@pytest.mark.parametrize(
    ("groups", "channels", "expected"),
    [(64, 256, 12), (64, 1024, 48), (64, 2048, 96), (4, 16, 12)],
)
def test_parameters(groups, channels, expected):
    """Six weights for each of the C / 2G channels: 3 C / G."""
    layer = ka.ShuffleAttention(groups)
    layer.build((None, None, None, channels))
    assert layer.count_params() == expected == 3 * channels // groups


def test_few_channels_have_fewer_groups():
    layer = ka.ShuffleAttention()
    layer.build((None, 7, 5, 24))
    assert layer.count_params() == 6 * 3  # gcd(64, 12) = 4 groups
    with pytest.raises(ValueError, match="even.*11 channels.*'shuffle'"):
        ka.ShuffleAttention(name="shuffle").build((None, 7, 5, 11))


def test_float16_at_its_limits():
    x = np.full((1, 57, 55, 4), 60_000.0, "float16")
    x[:, ::2] *= -1
    layer = build(ka.ShuffleAttention(1, dtype="mixed_float16"), x.shape)
    with np.errstate(over="ignore"):
        expected = reference(x, layer, 1)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=3e-3, atol=1e-6)


def test_half_of_a_large_image():
    """A channel's mean over a million positions."""
    x = np.full((1, 1024, 1024, 2), 0.1, "float32")
    layer = ka.ShuffleAttention(1, scale_initializer="ones")
    y = numpy(layer(x))
    np.testing.assert_allclose(y[..., 0], 0.1 * sigmoid(1.1), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"groups": 0}, ValueError),
        ({"groups": 2.0}, TypeError),
        ({"epsilon": 0}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ShuffleAttention(**arguments)
