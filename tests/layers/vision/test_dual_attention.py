import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp

BOTH = ("position", "channel")


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def reference(x, layer):
    """Equations 1 to 4; of the channels, those that differ most."""
    x = x.astype("float64")
    positions = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, M, C]
    scales = dict(zip(layer.branches, map(numpy, layer.scales), strict=True))
    y, scores = 0, {}
    if "position" in scales:
        query = dense(positions, layer.query)
        key = dense(positions, layer.key)
        scores["position"] = softmax(query @ key.swapaxes(1, 2))
        attended = scores["position"] @ dense(positions, layer.value)
        y = y + scales["position"] * attended + positions
    if "channel" in scales:
        energy = np.einsum("bmi,bmj->bij", positions, positions)
        energy = energy.max(-1, keepdims=True) - energy
        scores["channel"] = softmax(energy)
        attended = np.einsum("bij,bmj->bmi", scores["channel"], positions)
        y = y + scales["channel"] * attended + positions
    return y.reshape(x.shape), scores


@pytest.mark.parametrize("branches", [BOTH, BOTH[:1], BOTH[1:], BOTH[::-1]])
@pytest.mark.parametrize("shape", [(2, 7, 5, 17), (1, 3, 11, 8), (3, 1, 1, 5)])
def test_equals_the_paper(branches, shape):
    x = 0.5 * image(shape)
    layer = build(ka.DualAttention(branches=branches), shape)
    expected, scores = reference(x, layer)
    kind = "position" if "position" in branches else "channel"
    y, found = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(numpy(found), scores[kind], rtol=1e-4, atol=1e-5)
    assert tuple(found.shape) == layer.compute_scores_shape(shape)
    other = ka.DualAttention(branches=branches, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected), rtol=1e-4, atol=1e-4
    )


def test_worked_by_hand():
    """Two channels that differ take each other, and two alike their mean."""
    layer = ka.DualAttention(branches=["channel"], scale_initializer="ones")
    x = np.array([[[[3, 0, 0]], [[0, 3, 3]]]], "float32")
    y, scores = layer(x, return_attention_scores=True)
    # Products: 9, 0, 0 of the first; 0, 9, 9 of the others.
    other = np.exp(-9) / (1 + 2 * np.exp(-9))
    expected = np.array(
        [[np.exp(-9) / (2 + np.exp(-9)), 0, 0]] + [[0, 0, 0]] * 2
    )
    expected[0, 1:] = (1 - expected[0, 0]) / 2
    expected[1:, 0], expected[1:, 1:] = 1 - 2 * other, other
    np.testing.assert_allclose(numpy(scores)[0], expected, rtol=1e-5)
    mixed = x.reshape(2, 3) @ expected.T + x.reshape(2, 3)
    np.testing.assert_allclose(numpy(y).reshape(2, 3), mixed, rtol=1e-5)


@pytest.mark.parametrize(("branches", "times"), [(BOTH, 2), (BOTH[:1], 1)])
def test_start(branches, times):
    x = image((2, 7, 5, 8))
    layer = ka.DualAttention(branches=branches)
    np.testing.assert_array_equal(numpy(layer(x)), times * x)


@pytest.mark.parametrize(("channels", "width"), [(512, 64), (17, 2), (5, 1)])
def test_parameters(channels, width):
    layer = ka.DualAttention()
    layer.build((None, None, None, channels))
    expected = 2 * (channels + 1) * width + (channels + 1) * channels + 2
    assert layer.count_params() == expected
    assert layer.query.units == width
    layer = ka.DualAttention(branches=("channel",))
    layer.build((None, None, None, channels))
    assert layer.count_params() == 1


@pytest.mark.parametrize("branches", [BOTH[:1], BOTH[1:]])
def test_gradient(branches):
    x, dy = 0.5 * image((1, 3, 2, 4)), image((1, 3, 2, 4), seed=5)
    layer = build(ka.DualAttention(branches=branches), x.shape)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)),
        numeric_gradient(lambda x: reference(x, layer)[0], x, dy),
        rtol=1e-3,
        atol=1e-3,
    )


def test_float16_products_do_not_overflow():
    x = np.full((1, 13, 11, 4), 3_000.0, "float16")
    x[..., 2:] *= -1
    layer = ka.DualAttention(
        branches=("channel",), scale_initializer="ones", dtype="mixed_float16"
    )
    # Each takes the mean of the two that are its opposites.
    np.testing.assert_allclose(numpy(layer(x)), 0, atol=1e-3)


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "danet", ["conv"], preserve_outputs=True)
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduced_channels": 0}, ValueError),
        ({"branches": "position"}, TypeError),
        ({"branches": ()}, ValueError),
        ({"branches": ("position", "position")}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.DualAttention(**arguments)


def test_unknown_branch():
    with pytest.raises(
        ValueError, match="'positions'.*Did you mean 'position'"
    ):
        ka.DualAttention(branches=("positions",))
