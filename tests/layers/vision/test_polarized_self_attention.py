import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp


def softmax(x, axis):
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


def product(x, layer):
    return x @ numpy(layer.kernel)


def reference(x, layer):
    """The authors' modules, positions flattened, channels last."""
    shape, x = x.shape, x.astype("float64").reshape(len(x), -1, x.shape[-1])
    query = softmax(product(x, layer.channel_query), 1)  # [B, M, 1]
    values = product(x, layer.channel_value)  # [B, M, d]
    pooled = np.swapaxes(values, 1, 2) @ query  # [B, d, 1]
    pooled = np.swapaxes(pooled, 1, 2)
    sequential = layer.layout == "sequential"
    if sequential:
        hidden = dense(pooled, layer.reduce)
        deviation = np.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
        hidden = (hidden - hidden.mean(-1, keepdims=True)) / deviation
        hidden = hidden * numpy(layer.norm.gamma) + numpy(layer.norm.beta)
        pooled = sigmoid(dense(relu(hidden), layer.expand))
    else:
        pooled = sigmoid(product(pooled, layer.expand))
    by_channel = x * pooled
    source = by_channel if sequential else x
    mean = product(source, layer.spatial_query).mean(1, keepdims=True)
    values = np.swapaxes(product(source, layer.spatial_value), 1, 2)
    if sequential:
        logits = mean @ softmax(values, 2)  # [B, 1, M]
    else:
        logits = softmax(mean @ values, 2)
    by_position = source * sigmoid(np.swapaxes(logits, 1, 2))
    y = by_position if sequential else by_position + by_channel
    return y.reshape(shape)


layouts = pytest.mark.parametrize("layout", ["parallel", "sequential"])


@layouts
@pytest.mark.parametrize(
    "shape", [(2, 7, 5, 12), (1, 5, 3, 2), (3, 1, 11, 17), (2, 1, 1, 16)]
)
def test_equals_the_authors(layout, shape):
    x = image(shape)
    layer = build(ka.PolarizedSelfAttention(layout), shape)
    expected = reference(x, layer)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    layer_first = ka.PolarizedSelfAttention(
        layout, data_format="channels_first"
    )
    layer_first.build(first(x).shape)
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(first(x))), first(expected), rtol=1e-5, atol=1e-5
    )


def test_a_constant_image_by_hand():
    """Of equal positions, the softmax of M is 1 / M: here of six."""
    layer = ka.PolarizedSelfAttention(kernel_initializer="ones")
    x = np.full((1, 2, 3, 2), 0.5, "float32")
    # One channel inside: the mean of the values, 1.0, goes to both channels.
    expected = 0.5 * (sigmoid(1.0) + sigmoid(1 / 6))
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("layout", "channels", "expected"),
    [
        ("parallel", 256, 131_328),
        ("parallel", 1024, 2_098_176),
        ("sequential", 256, 111_200),
    ],
)
def test_parameters(layout, channels, expected):
    """Of d = C / 2 and q = d / 4: C + 3 C d, and C d or d q + 3 q + C q + C."""
    layer = ka.PolarizedSelfAttention(layout)
    layer.build((None, None, None, channels))
    assert layer.count_params() == expected


@layouts
def test_gradient(layout):
    x, dy = image((2, 3, 5, 8)), image((2, 3, 5, 8), seed=5)
    layer = build(ka.PolarizedSelfAttention(layout), x.shape)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)),
        numeric_gradient(lambda x: reference(x, layer), x, dy),
        rtol=1e-3,
        atol=1e-4,
    )


@layouts
def test_float16_at_its_limits(layout):
    x = np.full((1, 57, 55, 16), 60_000.0, "float16")
    layer = ka.PolarizedSelfAttention(layout, dtype="mixed_float16")
    build(layer, x.shape)
    for weight in layer.trainable_weights:
        weight.assign(numpy(weight) * 0.01)
    expected = reference(x, layer)
    y = numpy(layer(x))
    holds = expected < 65_000
    assert holds.any()
    np.testing.assert_allclose(y[holds], expected[holds], rtol=1e-2)


@layouts
@pytest.mark.tensorflow
def test_insertion_keeps_the_outputs_at_first(layout):
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))

    def make():
        return ka.PolarizedSelfAttention(layout)

    gated = ka.insert_attention(model, make, preserve_outputs=True)
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


@pytest.mark.parametrize(
    "arguments", [{"layout": "serial"}, {"data_format": "channels_lest"}]
)
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        ka.PolarizedSelfAttention(**arguments)
