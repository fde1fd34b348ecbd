import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image
from support.vision import normalize
from support.vision import sigmoid

SHAPE = (3, 7, 5, 11)


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def reference_gate(x, layer, training=False, activation=hard_swish):
    """Equations 4 to 8 of arXiv:2103.02907."""
    x = x.astype("float64")
    height = x.shape[1]
    lines = np.concatenate([x.mean(2), x.mean(1)], axis=1)
    f = normalize(dense(lines, layer.reduce), layer.norm, training)
    f = activation(f)
    rows = sigmoid(dense(f[:, :height], layer.expand_height))
    columns = sigmoid(dense(f[:, height:], layer.expand_width))
    return rows[:, :, None] * columns[:, None]


def reference(x, layer, training=False, activation=hard_swish):
    return x * reference_gate(x, layer, training, activation)


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1, 3), (2, 1, 13, 3)])
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(shape, training):
    x = image(shape)
    layer = build(ka.CoordinateAttention(), shape)
    expected = reference(x, layer, training)
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, rtol=1e-5, atol=1e-5
    )


def test_activation():
    x = image(SHAPE)
    layer = build(ka.CoordinateAttention(activation="tanh"), SHAPE)
    expected = reference(x, layer, activation=np.tanh)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)


def test_rows_and_columns_have_their_own_gates():
    """Rows pass the one, columns are shut by the other where they are -9."""
    layer = ka.CoordinateAttention(min_units=1, activation="linear")
    x = np.ones((1, 2, 3, 1), "float32")
    x[0, :, 1] = -9
    layer.build(x.shape)
    layer.norm.moving_variance.assign([1 - 1e-5])
    layer.reduce.kernel.assign([[1.0]])
    layer.expand_height.kernel.assign([[0.0]])
    layer.expand_width.kernel.assign([[100.0]])
    gate = numpy(layer.compute_gate(x))[0, :, :, 0]
    np.testing.assert_allclose(gate, [[0.5, 0, 0.5]] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "arguments", "units"),
    [
        (64, {}, 8),
        (512, {}, 16),
        (543, {}, 16),
        (64, {"ratio": 4}, 16),
        (64, {"min_units": 2}, 2),
        (16, {"min_units": 1}, 1),
    ],
)
def test_number_of_parameters(channels, arguments, units):
    layer = ka.CoordinateAttention(**arguments)
    layer.build((None, None, None, channels))
    count = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert count == 3 * channels * units + 3 * units + 2 * channels


def test_float16_means_do_not_overflow():
    layer = ka.CoordinateAttention(dtype="mixed_float16")
    x = np.full((1, 57, 3, 8), 60_000.0, "float16")
    layer.build(x.shape)
    layer.reduce.kernel.assign(np.eye(8) / 60_000)
    eye = np.eye(8)
    layer.expand_height.kernel.assign(eye)
    layer.expand_width.kernel.assign(eye)
    gate = numpy(layer.compute_gate(x))
    expected = sigmoid(hard_swish(1 / np.sqrt(1 + 1e-5))) ** 2
    np.testing.assert_allclose(gate, expected, rtol=2e-3)


def test_moving_statistics_follow_the_batch():
    x = image(SHAPE)
    layer = ka.CoordinateAttention()
    layer(x, training=True)
    lines = np.concatenate([x.mean(2), x.mean(1)], axis=1)
    mean = dense(lines, layer.reduce).mean((0, 1))
    np.testing.assert_allclose(
        numpy(layer.norm.moving_mean), 0.1 * mean, rtol=1e-3, atol=1e-6
    )


def test_initializers_and_regularizers_reach_the_layers():
    layer = ka.CoordinateAttention(
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    denses = [layer.reduce, layer.expand_height, layer.expand_width]
    squares = sum((numpy(d.kernel) ** 2).sum() for d in denses)
    expected = 0.5 * squares + 0.25 * (8 + 6 + 6)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 2.0}, TypeError),
        ({"min_units": 0}, ValueError),
        ({"min_units": None}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.CoordinateAttention(**arguments)


def test_unknown_activation():
    with pytest.raises(ValueError, match="reluu"):
        ka.CoordinateAttention(activation="reluu")


def test_bad_shape():
    with pytest.raises(ValueError, match="rank 4"):
        ka.CoordinateAttention().build((None, 8, 8))
