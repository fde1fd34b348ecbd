import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import normalize
from support.vision import relu


def reference(x, layer, training=False):
    """Equations 4 to 6 of arXiv:2103.06255, position by position."""
    x = x.astype("float64")
    _, height, width, channels = x.shape
    hidden = x @ numpy(layer.reduce.kernel)
    hidden = relu(normalize(hidden, layer.norm, training))
    kernels = dense(hidden, layer.span)
    size, reach = layer.kernel_size, layer.kernel_size // 2
    kernels = kernels.reshape(*x.shape[:3], -1, size, size)
    y = np.zeros_like(x)
    for row, column, c in np.ndindex(height, width, channels):
        kernel = kernels[:, row, column, c // layer.group_channels]
        for u, v in np.ndindex(size, size):
            r, w = row + u - reach, column + v - reach
            if 0 <= r < height and 0 <= w < width:
                y[:, row, column, c] += kernel[:, u, v] * x[:, r, w, c]
    return y


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 7, 5, 6), {"kernel_size": 3, "group_channels": 2}),
        ((1, 3, 5, 6), {"group_channels": 3, "ratio": 2}),
        ((3, 1, 1, 4), {"kernel_size": 5, "group_channels": 1}),
        ((2, 3, 2, 4), {"kernel_size": 1, "group_channels": 4}),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(shape, arguments, training):
    x = image(shape)
    layer = build(ka.Involution(**arguments), shape)
    expected = reference(x, layer, training)
    found = numpy(layer(x, training=training))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    if training:
        return
    other = ka.Involution(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected), rtol=1e-4, atol=1e-3
    )


def test_worked_by_hand():
    """Kernels of ones by their bias alone: sums of the neighborhood."""
    layer = ka.Involution(3, group_channels=1, bias_initializer="ones")
    x = np.arange(1, 7, dtype="float32").reshape(1, 2, 3, 1)
    layer.build(x.shape)
    layer.span.kernel.assign(np.zeros((1, 9)))
    y = numpy(layer(x)).ravel()
    np.testing.assert_allclose(y, [12, 21, 16, 12, 21, 16], rtol=1e-6)


@pytest.mark.parametrize("channels", [256, 48])
def test_parameters(channels):
    layer = ka.Involution()
    layer.build((None, None, None, channels))
    units, kernels = channels // 4, 49 * channels // 16
    expected = (channels + 2) * units + (units + 1) * kernels
    found = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert found == expected


def test_float16_at_its_limits():
    """A sum of the neighborhood is no number of float16 until its end."""
    x = np.full((1, 5, 7, 2), 20_000.0, "float16")
    x[:, :, 1::2] *= -1
    layer = ka.Involution(
        3, group_channels=2, bias_initializer="ones", dtype="mixed_float16"
    )
    layer.build(x.shape)
    for sublayer in (layer.reduce, layer.span):
        sublayer.kernel.assign(np.zeros(sublayer.kernel.shape))
    y = numpy(layer(x))
    np.testing.assert_allclose(
        y[0, 1:-1, 1:-1, 0] / 60_000, [[1, -1, 1, -1, 1]] * 3, rtol=1e-3
    )


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(16, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(
        model, "involution", ["conv"], preserve_outputs=True
    )
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kernel_size": 2}, ValueError),
        ({"group_channels": 0}, ValueError),
        ({"ratio": 4.0}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.Involution(**arguments)


def test_channels_that_are_not_divided():
    layer = ka.Involution(name="red")
    with pytest.raises(ValueError, match="16 for 24 channels.*'red'"):
        layer.build((None, 7, 5, 24))
