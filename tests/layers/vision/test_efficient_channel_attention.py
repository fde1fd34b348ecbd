import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import image
from support.vision import numeric_gradient
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def reference(x, layer):
    """Equation 9 of arXiv:1910.03151; equation 6 for filters of one's own."""
    z = x.astype("float64").mean((1, 2))
    filters = numpy(layer.excite.kernel)  # (K, 1, 1) or (K, C)
    filters = filters.reshape(len(filters), -1)
    size, channels = len(filters), z.shape[-1]
    logits = np.zeros_like(z)
    for channel in range(channels):
        for k in range(size):
            neighbor = channel + k - (size - 1) // 2
            if layer.padding == "circular":
                neighbor %= channels
            if 0 <= neighbor < channels:
                weight = filters[k, 0 if layer.shared else channel]
                logits[:, channel] += weight * z[:, neighbor]
    return x * sigmoid(logits)[:, None, None, :]


VARIANTS = {
    "paper": {},
    "kernel": {"kernel_size": 7},
    "own": {"shared": False, "kernel_size": 5},
    "circular": {"padding": "circular", "kernel_size": 5},
    "own circular": {"padding": "circular", "shared": False},
    "wider than the channels": {"padding": "circular", "kernel_size": 25},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


@variants
def test_equals_the_paper(variant):
    x = image(SHAPE)
    layer = build(ka.EfficientChannelAttention(**VARIANTS[variant]), SHAPE)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("padding", "logits"),
    [
        ("zeros", [0 + 10 + 2, 10 - 1 - 6, -1 + 3 - 0]),
        ("circular", [3 + 10 + 2, 10 - 1 - 6, -1 + 3 - 20]),
    ],
)
def test_worked_by_hand(padding, logits):
    """Means 10, -1, 3; the first weight is for the channel before."""
    layer = ka.EfficientChannelAttention(3, padding=padding)
    x = np.broadcast_to(np.array([10, -1, 3], "float32"), (1, 2, 2, 3))
    layer.build(x.shape)
    layer.set_weights([np.array([1.0, 1.0, -2.0]).reshape(3, 1, 1)])
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, sigmoid(np.array(logits)), rtol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_gradient(shared):
    x, dy = image((2, 3, 5, 4)), image((2, 3, 5, 4), seed=5)
    layer = build(ka.EfficientChannelAttention(3, shared=shared), x.shape)
    expected = numeric_gradient(lambda x: reference(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("channels", "size"),
    [
        (1, 3),
        (16, 3),
        (64, 3),
        (127, 3),
        (128, 5),
        (256, 5),
        (512, 5),
        (1024, 5),
        (2048, 7),
    ],
)
def test_the_kernel_grows_with_the_channels(channels, size):
    layer = ka.EfficientChannelAttention()
    layer.build((None, None, None, channels))
    assert layer.count_params() == size
    own = ka.EfficientChannelAttention(shared=False)
    own.build((None, None, None, channels))
    assert own.count_params() == size * channels


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"gamma": 1}, 7),  # 6 + 1
        ({"gamma": 1, "beta": 2.5}, 9),  # 8.5, 8
        ({"gamma": 1, "beta": -13}, 7),  # |6 - 13|
        ({"gamma": 0.5}, 15),  # 14
        ({"gamma": 0.5, "kernel_size": 3}, 3),
        ({"kernel_size": 1}, 1),
    ],
)
def test_options_of_the_kernels_size(arguments, size):
    layer = ka.EfficientChannelAttention(**arguments)
    layer.build((None, None, None, 64))
    assert layer.count_params() == size


def test_float16_extremes():
    layer = ka.EfficientChannelAttention(3, dtype="mixed_float16")
    x = np.full((1, 57, 55, 5), 60_000, "float16")
    layer.build(x.shape)
    layer.set_weights([np.array([0, 1 / 60_000, 0]).reshape(3, 1, 1)])
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate, sigmoid(1), rtol=2e-3)


@pytest.mark.parametrize("shared", [True, False])
def test_initializers_and_regularizers_reach_the_kernel(shared):
    layer = ka.EfficientChannelAttention(
        3,
        shared=shared,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
    )
    layer.build((None, None, None, 7))
    expected = 0.5 * 3 * (1 if shared else 7)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-6)


def test_filters_of_their_own_start_as_large_as_a_shared_one():
    """The variance is 2 / K, whatever the number of channels."""
    layer = ka.EfficientChannelAttention(5, shared=False)
    layer.build((None, None, None, 4096))
    np.testing.assert_allclose(
        numpy(layer.excite.kernel).var(), 2 / 5, rtol=0.05
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kernel_size": 4}, ValueError),
        ({"kernel_size": 0}, ValueError),
        ({"kernel_size": 3.0}, TypeError),
        ({"gamma": 0}, ValueError),
        ({"gamma": "2"}, TypeError),
        ({"beta": float("nan")}, ValueError),
        ({"shared": 0}, TypeError),
        ({"padding": "reflect"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.EfficientChannelAttention(**arguments)


def test_bad_input():
    with pytest.raises(ValueError, match="rank 3, 4 or 5"):
        ka.EfficientChannelAttention().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.EfficientChannelAttention().build((None, 8, 8, None))
    with pytest.raises(ValueError, match="bias_initializer"):
        ka.EfficientChannelAttention(bias_initializer="ones")
