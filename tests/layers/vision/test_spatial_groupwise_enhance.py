import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image
from support.vision import sigmoid
from support.vision import vjp


def reference(x, layer, groups):
    """Section 3, one group after the other, channels last."""
    x = x.astype("float64")
    outputs = []
    parameters = numpy(layer.group_scale), numpy(layer.group_bias)
    for group, w, b in zip(np.split(x, groups, -1), *parameters, strict=True):
        similarity = (group * group.mean((1, 2), keepdims=True)).sum(-1)
        mean = similarity.mean((1, 2), keepdims=True)
        deviation = np.zeros_like(mean)
        if similarity[0].size > 1:
            deviation = similarity.std((1, 2), ddof=1, keepdims=True)
        normalized = (similarity - mean) / (deviation + layer.epsilon)
        outputs.append(group * sigmoid(w * normalized + b)[..., None])
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
    layer = build(ka.SpatialGroupwiseEnhance(groups), shape)
    expected = reference(x, layer, groups)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    layer_first = ka.SpatialGroupwiseEnhance(
        groups, data_format="channels_first"
    )
    layer_first.build(first(x).shape)
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(first(x))), first(expected), rtol=1e-5, atol=1e-5
    )


def test_two_positions_by_hand():
    """Means 2 and 1; similarities 3 and 7; they are -1/√2 and 1/√2."""
    x = np.array([[1, 1], [3, 1]], "float32").reshape(1, 1, 2, 2)
    layer = ka.SpatialGroupwiseEnhance(1, scale_initializer="ones")
    gate = numpy(layer.compute_gate(x))[0, 0, :, 0]
    expected = sigmoid(1 + np.array([-1, 1]) / np.sqrt(2))
    np.testing.assert_allclose(gate, expected, rtol=1e-5)


@pytest.mark.parametrize("channels", [64, 256, 1024])
def test_parameters(channels):
    layer = ka.SpatialGroupwiseEnhance()
    layer.build((None, None, None, channels))
    assert layer.count_params() == 128


def test_channels_that_cannot_be_split():
    layer = ka.SpatialGroupwiseEnhance(name="sge")
    message = "`groups` must divide.*groups=64 for 24 channels.*'sge'.* 8"
    with pytest.raises(ValueError, match=message):
        layer.build((None, 7, 5, 24))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_gradient_of_a_group_that_is_constant(value):
    """Behind a ReLU whole groups may be zero: no slope of a root is NaN."""
    x = np.full((2, 3, 5, 8), value, "float32")
    x[..., 4:] = image((2, 3, 5, 4))
    layer = build(ka.SpatialGroupwiseEnhance(2), x.shape)
    found = numpy(vjp(layer, x, np.ones_like(x)))
    assert np.isfinite(found).all()
    gate = sigmoid(numpy(layer.group_bias)[0])
    np.testing.assert_allclose(found[..., :4], gate, rtol=1e-5)


def test_float16_at_its_limits():
    x = np.full((1, 57, 55, 4), 60_000.0, "float16")
    x[:, ::3] *= -1
    layer = ka.SpatialGroupwiseEnhance(1, dtype="mixed_float16")
    build(layer, x.shape)
    expected = reference(x, layer, 1)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=3e-3)


@pytest.mark.tensorflow
def test_insertion_keeps_the_outputs_at_first():
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))

    def make():
        return ka.SpatialGroupwiseEnhance(groups=8)

    gated = ka.insert_attention(model, make, preserve_outputs=True)
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))
    with pytest.raises(ValueError, match="`groups` must divide.*such as 16"):
        ka.insert_attention(model, "sge")


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
        ka.SpatialGroupwiseEnhance(**arguments)
