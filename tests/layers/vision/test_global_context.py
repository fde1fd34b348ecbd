import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 7, 5, 11)


def reference_scores(x, layer):
    logits = x.astype("float64") @ numpy(layer.attention.kernel)[:, 0]
    exponentials = np.exp(logits - logits.max((1, 2), keepdims=True))
    return exponentials / exponentials.sum((1, 2), keepdims=True)


def reference(x, layer):
    """Equation 5 of arXiv:1904.11492."""
    x = x.astype("float64")
    context = (reference_scores(x, layer)[..., None] * x).sum((1, 2))
    hidden = dense(context, layer.reduce)
    mean, variance = hidden.mean(-1), hidden.var(-1)
    hidden = (hidden - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
    hidden = hidden * numpy(layer.norm.gamma) + numpy(layer.norm.beta)
    term = dense(relu(hidden), layer.expand)[:, None, None]
    return x * sigmoid(term) if layer.fusion == "multiply" else x + term


@pytest.mark.parametrize("fusion", ["add", "multiply"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1, 11), (2, 1, 13, 11)])
def test_equals_the_paper(fusion, shape):
    x = image(shape)
    layer = build(ka.GlobalContext(3, fusion), shape)
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(
        numpy(y), reference(x, layer), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        numpy(scores), reference_scores(x, layer), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(numpy(layer(x)), numpy(y))


def test_starts_as_the_identity():
    x = image(SHAPE)
    np.testing.assert_array_equal(numpy(ka.GlobalContext(3)(x)), x)
    layer = ka.GlobalContext(3, "multiply")
    np.testing.assert_allclose(numpy(layer(x)), x / 2)
    layer = ka.GlobalContext(3, output_initializer="ones")
    assert (numpy(layer(x)) != x).any()


def test_the_context_is_the_position_attended_to():
    layer = ka.GlobalContext(1)
    x = np.zeros((1, 2, 3, 2), "float32")
    x[0, 1, 2] = [3, 1]
    layer.build(x.shape)
    layer.attention.kernel.assign([[50.0], [0.0]])
    layer.reduce.kernel.assign(np.eye(2))
    layer.expand.kernel.assign(np.eye(2))
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(scores)[0], [[0, 0, 0], [0, 0, 1]])
    # (3, 1) normalized is (1, -1), and the ReLU leaves (1, 0).
    np.testing.assert_allclose(numpy(y) - x, [[[[1, 0]] * 3] * 2], atol=1e-4)


@pytest.mark.parametrize("fusion", ["add", "multiply"])
def test_gradient(fusion):
    x, dy = image((2, 3, 5, 4)), image((2, 3, 5, 4), seed=5)
    layer = build(ka.GlobalContext(2, fusion), x.shape, seed=3)
    expected = numeric_gradient(lambda x: reference(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(("channels", "ratio"), [(256, 16), (256, 4), (65, 32)])
@pytest.mark.parametrize("fusion", ["add", "multiply"])
def test_number_of_parameters(channels, ratio, fusion):
    layer = ka.GlobalContext(ratio, fusion)
    layer.build((None, None, None, channels))
    units = channels // ratio
    assert layer.count_params() == (
        2 * channels * units + 2 * channels + 3 * units
    )


def test_default_ratio():
    layer = ka.GlobalContext()
    layer.build((None, None, None, 64))
    assert layer.reduce.units == 4


def test_float16_sum_and_softmax():
    layer = ka.GlobalContext(1, dtype="mixed_float16")
    x = np.full((1, 57, 55, 2), 60_000.0, "float16")
    x[..., 1] = 0
    layer.build(x.shape)
    layer.attention.kernel.assign([[1.0], [0.0]])
    layer.reduce.kernel.assign(np.eye(2))
    layer.expand.kernel.assign(np.eye(2))
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(scores), 1 / (57 * 55), rtol=2e-3)
    np.testing.assert_allclose(numpy(y)[..., 1], 0, atol=1e-3)
    assert np.isfinite(numpy(y)).all()


def test_scores_are_tapped_and_known_without_running():
    inputs = keras.Input((None, None, 11))
    layer = ka.GlobalContext(3, name="context")
    y, scores = layer(inputs, return_attention_scores=True)
    assert scores.shape == (None, None, None)
    model = keras.Model(inputs, layer(inputs))
    x = image(SHAPE)
    outputs, taps = read_outputs(model, x, ["context:scores"])
    np.testing.assert_allclose(
        numpy(taps["context:scores"]), reference_scores(x, layer), rtol=1e-4
    )
    np.testing.assert_array_equal(numpy(outputs), numpy(model(x)))
    both = keras.Model(inputs, [y, scores])
    assert [tuple(t.shape) for t in both(x)] == [SHAPE, SHAPE[:3]]


def test_initializers_and_regularizers_reach_the_layers():
    layer = ka.GlobalContext(
        3,
        output_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    denses = [layer.attention, layer.reduce, layer.expand]
    squares = sum((numpy(d.kernel) ** 2).sum() for d in denses)
    np.testing.assert_allclose(
        numpy(sum(layer.losses)), 0.5 * squares + 0.25 * (2 + 6), rtol=1e-5
    )
    np.testing.assert_array_equal(numpy(layer.expand.kernel), 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 0.25}, TypeError),
        ({"fusion": "mul"}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.GlobalContext(**arguments)
