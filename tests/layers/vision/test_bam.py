import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import convolve
from support.vision import dense
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 11, 13, 7)


def reference(x, layer, training=False):
    """Equations 1 to 5 of arXiv:1807.06514, or the authors' product."""
    x = x.astype("float64")
    hidden = dense(x.mean((1, 2)), layer.channel_reduce)
    hidden = relu(normalize(hidden, layer.channel_norm, training))
    channel = dense(hidden, layer.channel_expand)[:, None, None, :]
    y = x
    for number in range(3):
        convolution = layer.spatial_convolutions[number]
        dilation = 1 if number == 0 else layer.dilation
        y = convolve(y, numpy(convolution.kernel), dilation)
        y = y + numpy(convolution.bias)
        y = relu(normalize(y, layer.spatial_norms[number], training))
    expand = layer.spatial_expand
    spatial = convolve(y, numpy(expand.kernel)) + numpy(expand.bias)
    product = layer.combine == "multiply"
    logits = channel * spatial if product else channel + spatial
    return x * (1 + sigmoid(logits))


variants = pytest.mark.parametrize(
    ("combine", "dilation"), [("multiply", 4), ("add", 4), ("multiply", 3)]
)


@variants
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(combine, dilation, training):
    x = image(SHAPE)
    layer = build(ka.BAM(2, dilation, combine), SHAPE)
    expected = reference(x, layer, training)
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("combine", ["multiply", "add"])
def test_gradient(combine):
    x, dy = image((1, 3, 5, 4)), image((1, 3, 5, 4), seed=5)
    layer = build(ka.BAM(2, 2, combine), x.shape)
    expected = numeric_gradient(lambda x: reference(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-4, atol=2e-5
    )


def test_the_input_is_never_scaled_down():
    layer = build(ka.BAM(2), SHAPE)
    gate = numpy(layer.compute_gate(9 * image(SHAPE)))
    assert 1 <= gate.min() < 1.1 and 1.9 < gate.max() <= 2


def test_training_moves_all_statistics():
    layer = build(ka.BAM(2), SHAPE)
    norms = [layer.channel_norm, *layer.spatial_norms]
    before = [numpy(norm.moving_mean) for norm in norms]
    layer(image(SHAPE), training=True)
    for norm, old in zip(norms, before, strict=True):
        assert (numpy(norm.moving_mean) != old).all(), norm.name


@pytest.mark.parametrize("channels", [256, 512, 1024])
def test_number_of_parameters(channels):
    units = channels // 16
    channel = 2 * channels * units + units + 2 * units + channels
    spatial = channels * units + 3 * units  # bias, gamma and beta
    spatial += 2 * (9 * units * units + 3 * units) + units + 1
    layer = ka.BAM()
    layer.build((None, None, None, channels))
    trainable = [w.shape for w in layer.trainable_weights]
    assert sum(map(np.prod, trainable)) == channel + spatial


def test_float16_extremes():
    layer = ka.BAM(1, dtype="mixed_float16", kernel_initializer="zeros")
    x = np.full((1, 57, 55, 3), 60_000, "float16")
    layer.build(x.shape)
    layer.channel_reduce.kernel.assign(np.eye(3) / 60_000)
    layer.channel_expand.kernel.assign(np.eye(3))
    layer.spatial_expand.bias.assign([1.0])
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate, 1 + sigmoid(1), rtol=2e-3)


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.BAM(
        2,
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    kernels = 2 * 6 * 3 + 6 * 3 + 2 * 9 * 3 * 3 + 3
    biases = 3 + 6 + 3 * 3 + 1
    np.testing.assert_allclose(
        numpy(sum(layer.losses)), 0.5 * kernels + 0.25 * biases, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 2.0}, TypeError),
        ({"dilation": 0}, ValueError),
        ({"dilation": "4"}, TypeError),
        ({"combine": "max"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.BAM(**arguments)
