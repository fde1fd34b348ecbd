import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image
from support.vision import normalize
from support.vision import sigmoid
from support.vision import vjp


def reference(x, layer, training=False):
    """Section 3, channels last."""
    x = x.astype("float64")
    mean, deviation = x.mean((1, 2)), np.zeros((len(x), x.shape[-1]))
    if x.shape[1] * x.shape[2] > 1:
        deviation = x.std((1, 2), ddof=1)
    kernel = numpy(layer.kernel)
    style = kernel[0] * mean + kernel[1] * deviation
    gate = sigmoid(normalize(style, layer.norm, training))
    return x * gate[:, None, None]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "shape", [(7, 5, 3, 12), (1, 5, 3, 2), (11, 1, 7, 5), (5, 1, 1, 6)]
)
def test_equals_the_paper(shape, training):
    x = image(shape)
    layer = build(ka.StyleRecalibration(), shape)
    expected = reference(x, layer, training)
    weights, tolerance = layer.get_weights(), {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, **tolerance
    )
    layer_first = ka.StyleRecalibration(data_format="channels_first")
    layer_first.build(first(x).shape)
    layer_first.set_weights(weights)
    np.testing.assert_allclose(
        numpy(layer_first(first(x), training=training)),
        first(expected),
        **tolerance,
    )


def test_it_starts_as_a_half():
    x = image((2, 3, 5, 4))
    np.testing.assert_allclose(
        numpy(ka.StyleRecalibration()(x)), x / 2, rtol=1e-6
    )


def test_two_positions_by_hand():
    """The mean of 1 and 3 is 2, and their deviation √2."""
    layer = ka.StyleRecalibration("ones")
    x = np.array([1.0, 3.0], "float32").reshape(1, 1, 2, 1)
    expected = sigmoid((2 + np.sqrt(2)) / np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(
        numpy(layer.compute_gate(x)), expected, rtol=1e-6
    )


def test_parameters_are_the_published_ones():
    """ResNet-50 grows by 0.06M, from 25.56M to 25.62M."""
    added = 0
    for channels, blocks in [(256, 3), (512, 4), (1024, 6), (2048, 3)]:
        layer = ka.StyleRecalibration()
        layer.build((None, None, None, channels))
        added += blocks * sum(
            np.prod(weight.shape) for weight in layer.trainable_weights
        )
    assert added == 4 * 15_104 == 60_416


def test_gradient_of_a_channel_that_is_constant():
    """Behind a ReLU channels may be zero: no slope of a root is NaN."""
    x = np.zeros((2, 3, 5, 2), "float32")
    x[..., 1] = image((2, 3, 5))
    layer = build(ka.StyleRecalibration(), x.shape)
    assert np.isfinite(numpy(vjp(layer, x, np.ones_like(x)))).all()


def test_float16_at_its_limits():
    x = np.full((1, 57, 55, 4), 60_000.0, "float16")
    x[:, ::2] *= -1
    layer = ka.StyleRecalibration("zeros", dtype="mixed_float16")
    layer.build(x.shape)
    layer.kernel.assign(np.full((2, 4), 2e-5))
    np.testing.assert_allclose(numpy(layer(x)), reference(x, layer), rtol=3e-3)


@pytest.mark.tensorflow
def test_insertion_keeps_the_outputs_at_first():
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))
    gated = ka.insert_attention(model, "srm", preserve_outputs=True)
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`data_format`.*Received"):
        ka.StyleRecalibration(data_format="channels_lest")
