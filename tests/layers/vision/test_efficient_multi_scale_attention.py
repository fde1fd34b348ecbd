import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import convolve
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import sigmoid


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def reference(x, layer, groups):
    """Section 3 and figure 3b, one group after the other, channels last."""
    x = x.astype("float64")
    convolution = layer.convolution
    outputs = []
    for group in np.split(x, groups, axis=-1):
        rows = sigmoid(dense(group.mean(2, keepdims=True), layer.of_lines))
        columns = sigmoid(dense(group.mean(1, keepdims=True), layer.of_lines))
        scaled = group * rows * columns
        mean = scaled.mean((1, 2), keepdims=True)
        variance = scaled.var((1, 2), keepdims=True)
        scaled = (scaled - mean) / np.sqrt(variance + layer.epsilon)
        scaled = scaled * numpy(layer.gamma) + numpy(layer.beta)
        convolved = convolve(group, numpy(convolution.kernel))
        convolved = convolved + numpy(convolution.bias)
        # Each branch's global pooling weighs the channels of the other.
        by_scaled = softmax(scaled.mean((1, 2), keepdims=True))
        by_convolved = softmax(convolved.mean((1, 2), keepdims=True))
        logits = by_scaled * convolved + by_convolved * scaled
        outputs.append(group * sigmoid(logits.sum(-1, keepdims=True)))
    return np.concatenate(outputs, axis=-1)


@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        (3, (2, 7, 5, 12)),
        (1, (1, 5, 3, 2)),
        (5, (3, 1, 11, 5)),
        (4, (2, 1, 1, 24)),
    ],
)
def test_equals_the_paper(groups, shape):
    x = image(shape)
    layer = build(ka.EfficientMultiScaleAttention(groups), shape)
    expected = reference(x, layer, groups)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    layer_first = ka.EfficientMultiScaleAttention(
        groups, data_format="channels_first"
    )
    layer_first.build(first(x).shape)
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(first(x))), first(expected), rtol=1e-5, atol=1e-5
    )


def test_one_position_by_hand():
    """Its norm is zero and leaves the offset; the kernel's center is left."""
    layer = ka.EfficientMultiScaleAttention(2, beta_initializer="ones")
    x = np.array([3.0, -2.0], "float32").reshape(1, 1, 1, 2)
    layer.build(x.shape)
    kernel = np.full((3, 3, 1, 1), 9.0)
    kernel[1, 1] = 0.5
    layer.convolution.kernel.assign(kernel)
    # One channel a group: both softmaxes are 1.
    expected = [3 * sigmoid(1.5 + 1), -2 * sigmoid(-1.0 + 1)]
    np.testing.assert_allclose(numpy(layer(x)).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("groups", "channels", "expected"),
    [(32, 256, 672), (32, 1024, 10_368), (8, 256, 10_368), (16, 16, 14)],
)
def test_parameters(groups, channels, expected):
    """Of c = C / G channels: c² + c, 9 c² + c and 2 c."""
    layer = ka.EfficientMultiScaleAttention(groups)
    layer.build((None, None, None, channels))
    width = channels // groups
    assert layer.count_params() == expected == 10 * width**2 + 4 * width


def test_parameters_are_the_published_ones():
    """MobileNetV2 grows from 3.50M to 3.55M: the wide expansions have it."""
    added = 0
    for channels, blocks in [(192, 3), (384, 4), (576, 3), (960, 3)]:
        layer = ka.EfficientMultiScaleAttention()
        layer.build((None, None, None, channels))
        added += blocks * layer.count_params()
    assert f"{(3_504_872 + added) / 1e6:.2f}M" == "3.55M"


def test_channels_that_cannot_be_split():
    layer = ka.EfficientMultiScaleAttention(name="ema")
    message = "`groups` must divide.*groups=32 for 24 channels.*'ema'.* 8"
    with pytest.raises(ValueError, match=message):
        layer.build((None, 7, 5, 24))


def test_float16_at_its_limits():
    x = np.full((1, 57, 55, 4), 60_000.0, "float16")
    x[:, ::2] *= -1
    layer = ka.EfficientMultiScaleAttention(1, dtype="mixed_float16")
    build(layer, x.shape)
    # Of the convolution, a float16 holds no more than 65,504.
    layer.convolution.kernel.assign(1e-5 * layer.convolution.kernel)
    with np.errstate(over="ignore"):
        expected = reference(x, layer, 1)
    y = numpy(layer(x))
    np.testing.assert_allclose(y, expected, rtol=3e-2, atol=1e-6 * 60_000)


@pytest.mark.tensorflow
def test_insertion_into_a_network():
    """Its outputs are kept at first; widths that do not fit are refused."""
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="`groups` must divide.*such as 16"):
        ka.insert_attention(model, "ema")

    def make():
        return ka.EfficientMultiScaleAttention(groups=8)

    gated = ka.insert_attention(model, make, preserve_outputs=True)
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))
    assert gated.count_params() > model.count_params()


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
        ka.EfficientMultiScaleAttention(**arguments)
