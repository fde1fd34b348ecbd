import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 7, 5, 11)
POOLS = {
    "avg": lambda x: x.mean((1, 2)),
    "max": lambda x: x.max((1, 2)),
    "lp": lambda x: np.sqrt((x**2).sum((1, 2))),
    "lse": lambda x: np.logaddexp.reduce(x, (1, 2)),
}
CHOICES = [
    ("avg", "max"),
    ("avg",),
    ("max",),
    ("lp",),
    ("lse",),
    ("lse", "max", "lp", "avg"),
]


def reference_gate(x, layer):
    """Equation 2 of arXiv:1807.06521, with all of the authors' poolings."""
    logits = 0
    for pool_type in layer.pool_types:
        pooled = POOLS[pool_type](x.astype("float64"))
        hidden = relu(dense(pooled, layer.reduce))
        logits = logits + dense(hidden, layer.expand)
    return sigmoid(logits)[:, None, None, :]


def reference(x, layer):
    return x * reference_gate(x, layer)


@pytest.mark.parametrize("pool_types", CHOICES, ids="-".join)
def test_equals_the_paper(pool_types):
    x = image(SHAPE)
    layer = build(ka.ChannelAttention(3, pool_types), SHAPE)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-5, atol=1e-5
    )


def test_the_paper_takes_mean_and_maximum():
    assert ka.ChannelAttention().pool_types == ("avg", "max")


def test_worked_by_hand():
    """Mean 2 and maximum 3, biases 1: logits (2 + 1 + 1) + (3 + 1 + 1)."""
    layer = ka.ChannelAttention(ratio=1)
    x = np.array([1, 3], "float32").reshape((1, 1, 2, 1))
    layer.build(x.shape)
    layer.set_weights([np.eye(1), np.ones(1), np.eye(1), np.ones(1)])
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate.item(), sigmoid(9.0), rtol=1e-6)


@pytest.mark.parametrize("pool_types", CHOICES, ids="-".join)
def test_gradient(pool_types):
    x, dy = image((2, 3, 5, 4)), image((2, 3, 5, 4), seed=5)
    layer = build(ka.ChannelAttention(2, pool_types), x.shape)
    expected = numeric_gradient(lambda x: reference(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-4, atol=2e-5
    )


def test_number_of_parameters():
    layer = ka.ChannelAttention(pool_types=("avg", "max", "lp", "lse"))
    layer.build((None, None, None, 256))
    assert layer.count_params() == 8_464


@pytest.mark.parametrize("pool_type", POOLS)
@pytest.mark.parametrize("value", [6e-8, 60_000.0])
def test_float16_extremes(pool_type, value):
    layer = ka.ChannelAttention(1, [pool_type], dtype="mixed_float16")
    x = np.full((1, 57, 55, 3), value, "float16")
    layer.build(x.shape)
    layer.set_weights([np.eye(3) / 60_000, np.zeros(3), np.eye(3), np.zeros(3)])
    expected = reference_gate(x, layer).ravel()
    # A norm past 65,504 counts as that.
    if pool_type == "lp" and value > 1:
        expected = sigmoid(np.full(3, 65_504 / 60_000))
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, expected, rtol=2e-3)


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.ChannelAttention(
        2,
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    expected = 0.5 * (2 * 6 * 3) + 0.25 * (3 + 6)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 2.0}, TypeError),
        ({"pool_types": "avg"}, TypeError),
        ({"pool_types": ()}, ValueError),
        ({"pool_types": ("max", "max")}, ValueError),
        ({"pool_types": ("avg", "lpp")}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ChannelAttention(**arguments)
