import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image
from support.vision import relu
from support.vision import sigmoid

SHAPE = (3, 7, 5, 11)


def reference(x, w1, b1, w2, b2):
    """Equations 2 to 4 of arXiv:1709.01507."""
    z = x.astype("float64").mean(axis=(1, 2))
    s = sigmoid(relu(z @ w1 + b1) @ w2 + b2)
    return x * s[:, None, None, :]


def weights(layer):
    return [np.asarray(w, "float64") for w in layer.get_weights()]


def test_equals_the_paper():
    x = image(SHAPE)
    layer = build(ka.SqueezeExcite(ratio=3), SHAPE)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, *weights(layer)), atol=1e-5, rtol=1e-5
    )


def test_worked_by_hand():
    """One hidden unit: z = (2, 0), hidden 2, logits (0, 2)."""
    layer = ka.SqueezeExcite(ratio=2)
    x = np.array([[[[1, 1], [3, -1]]]], "float32")
    layer.build(x.shape)
    layer.set_weights(
        [
            np.array([[1.0], [5.0]]),
            np.zeros(1),
            np.array([[0.0, 1.0]]),
            np.zeros(2),
        ]
    )
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate.ravel(), [0.5, 0.880797], rtol=1e-5)
    np.testing.assert_allclose(numpy(layer(x)), x * gate, rtol=1e-6)


@pytest.mark.parametrize(
    "channels, arguments, count",
    [
        (256, {}, 8_464),
        (256, {"ratio": 8}, 2 * 256 * 32 + 32 + 256),
        (256, {"use_bias": False}, 2 * 256 * 16),
        (64, {}, 2 * 64 * 4 + 4 + 64),
        (64, {"divisor": 8}, 2 * 64 * 8 + 8 + 64),
        (64, {"hidden_units": 5, "ratio": 1000}, 2 * 64 * 5 + 5 + 64),
        (64, {"hidden_units": 5, "divisor": 8}, 2 * 64 * 5 + 5 + 64),
    ],
)
def test_number_of_parameters(channels, arguments, count):
    layer = ka.SqueezeExcite(**arguments)
    layer.build((None, None, None, channels))
    assert layer.count_params() == count


@pytest.mark.parametrize(
    "channels, ratio, units",
    [
        (64, 16, 8),  # 4, and no less than the divisor
        (8, 16, 8),  # half a unit
        (192, 16, 16),  # 12: halves go up
        (176, 16, 16),  # 11: 8 would be more than a tenth down
        (280, 16, 16),  # 17.5: 16 is within a tenth
        (464, 16, 32),  # 29: up
        (1024, 16, 64),
    ],
)
def test_divisor_rounds_to_the_nearest_multiple(channels, ratio, units):
    layer = ka.SqueezeExcite(ratio=ratio, divisor=8)
    layer.build((None, None, None, channels))
    assert layer.reduce.units == units


def test_hidden_width_rounds_down():
    layer = ka.SqueezeExcite(ratio=16)
    layer.build((None, None, None, 47))
    assert layer.reduce.units == 2


def test_activations():
    x = image(SHAPE)
    layer = ka.SqueezeExcite(
        ratio=3, activation="tanh", gate_activation="linear"
    )
    build(layer, SHAPE)
    w1, b1, w2, b2 = weights(layer)
    gate = np.tanh(x.astype("float64").mean((1, 2)) @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(
        numpy(layer.compute_gate(x))[:, 0, 0], gate, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("value", [100.0, 60_000.0])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_float16_sum_over_positions_does_not_overflow(value, data_format):
    layer = ka.SqueezeExcite(
        ratio=2, data_format=data_format, dtype="mixed_float16"
    )
    x = np.full((1, 56, 56, 4), value, "float16")
    x[..., 1] = -value
    x = first(x) if data_format == "channels_first" else x
    layer.build(x.shape)
    axis = -1 if data_format == "channels_last" else 1
    identity = np.eye(4)[:, :2] / value
    layer.set_weights([identity, np.zeros(2), identity.T * value, np.zeros(4)])
    gate = np.moveaxis(numpy(layer.compute_gate(x)), axis, -1).ravel()
    np.testing.assert_allclose(gate, [sigmoid(1), 0.5, 0.5, 0.5], atol=2e-3)
    assert np.isfinite(numpy(layer(x))).all()


def test_bfloat16_mean_is_summed_in_float32():
    """A bfloat16 sum of ones stops at 256."""
    layer = ka.SqueezeExcite(ratio=1, dtype="mixed_bfloat16")
    x = np.ones((1, 56, 56, 2), "float32")
    layer.build(x.shape)
    layer.set_weights([np.eye(2), np.zeros(2), np.eye(2), np.zeros(2)])
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, sigmoid(np.ones(2)), atol=4e-3)


def test_initializers_and_regularizers_reach_the_kernels():
    layer = ka.SqueezeExcite(
        ratio=2,
        kernel_initializer=keras.initializers.RandomNormal(seed=3),
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    w1, b1, w2, b2 = weights(layer)
    assert (b1 == 1).all() and (b2 == 1).all()
    expected = 0.5 * ((w1**2).sum() + (w2**2).sum()) + 0.25 * (3 + 6)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 2.0}, TypeError),
        ({"ratio": True}, TypeError),
        ({"hidden_units": 0}, ValueError),
        ({"hidden_units": "8"}, TypeError),
        ({"divisor": -8}, ValueError),
        ({"use_bias": 1}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.SqueezeExcite(**arguments)


@pytest.mark.parametrize("activation", ["activation", "gate_activation"])
def test_unknown_activation(activation):
    with pytest.raises(ValueError, match="reluu"):
        ka.SqueezeExcite(**{activation: "reluu"})


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"rank 3, 4 or 5.*shape=\(None, 8\)"):
        ka.SqueezeExcite().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.SqueezeExcite().build((None, 8, 8, None))
    layer = ka.SqueezeExcite(ratio=2)
    layer.build((None, 8, 8, 4))
    with pytest.raises(ValueError, match="incompatible"):
        layer(image((1, 8, 8, 5)))
