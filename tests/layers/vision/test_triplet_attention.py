import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import convolve
from support.vision import image
from support.vision import normalize
from support.vision import sigmoid

SHAPE = (3, 7, 5, 11)


def reference(x, layer, training=False):
    """Equation 4 of arXiv:2010.03045: rotated images, scaled, rotated back."""
    x = x.astype("float64")
    # Batch, rows, columns, and the axis that is pooled; each its own inverse
    # or with the inverse beside it.
    rotations = [
        ((0, 3, 2, 1), (0, 3, 2, 1)),  # C, W
        ((0, 1, 3, 2), (0, 1, 3, 2)),  # H, C
        ((0, 1, 2, 3), (0, 1, 2, 3)),  # H, W
    ]
    branches = zip(rotations, layer.convolutions, layer.norms, strict=False)
    scaled = []
    for (there, back), convolution, norm in branches:
        rotated = x.transpose(there)
        pooled = np.stack([rotated.max(-1), rotated.mean(-1)], axis=-1)
        logits = convolve(pooled, numpy(convolution.kernel))
        gate = sigmoid(normalize(logits, norm, training))
        scaled.append((rotated * gate).transpose(back))
    return sum(scaled) / len(scaled)


@pytest.mark.parametrize("use_spatial", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(use_spatial, kernel_size, training):
    x = image(SHAPE)
    layer = build(ka.TripletAttention(kernel_size, use_spatial), SHAPE)
    assert len(layer.convolutions) == (3 if use_spatial else 2)
    expected = reference(x, layer, training)
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 13, 3), (2, 3, 5, 1)])
def test_small_images(shape):
    x = image(shape)
    layer = build(ka.TripletAttention(), shape)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-5, atol=1e-5
    )


def test_worked_by_hand():
    """Kernels that read the maximum alone: 2, 3, and 4 by pair of axes."""
    layer = ka.TripletAttention(kernel_size=1)
    x = np.zeros((1, 2, 2, 2), "float32")
    x[0, 0, 1, 0] = 2
    layer.build(x.shape)
    for convolution, norm in zip(layer.convolutions, layer.norms, strict=True):
        convolution.kernel.assign(np.reshape([1.0, 0.0], (1, 1, 2, 1)))
        norm.moving_variance.assign([1 - 1e-5])
    gate = numpy(layer.compute_gate(x))[0]  # [H, W, C]
    high, low = sigmoid(2), 0.5
    # The channel and the column, the row and the channel, the row and the
    # column of the peak: all three, two of the pairs never without the third.
    np.testing.assert_allclose(gate[0, 1, 0], high, rtol=1e-6)
    one = (high + 2 * low) / 3
    np.testing.assert_allclose(gate[1, 1, 0], one, rtol=1e-6)  # C and W
    np.testing.assert_allclose(gate[0, 0, 0], one, rtol=1e-6)  # H and C
    np.testing.assert_allclose(gate[0, 1, 1], one, rtol=1e-6)  # H and W
    np.testing.assert_allclose(gate[1, 0, 1], low, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 300),
        ({"use_spatial": False}, 200),
        ({"kernel_size": 3}, 60),
    ],
)
@pytest.mark.parametrize("channels", [1, 256])
def test_number_of_parameters(arguments, count, channels):
    layer = ka.TripletAttention(**arguments)
    layer.build((None, None, None, channels))
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) == count


def test_float16_means_do_not_overflow():
    layer = ka.TripletAttention(1, dtype="mixed_float16")
    x = np.full((1, 57, 55, 7), 60_000.0, "float16")
    layer.build(x.shape)
    for convolution in layer.convolutions:
        kernel = np.reshape([0.0, 1 / 60_000], (1, 1, 2, 1))
        convolution.kernel.assign(kernel)
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate, sigmoid(1), rtol=2e-3)


def test_initializer_and_regularizer_reach_the_kernels():
    layer = ka.TripletAttention(
        3,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
    )
    layer.build((None, None, None, 6))
    np.testing.assert_allclose(numpy(sum(layer.losses)), 0.5 * 3 * 18)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kernel_size": 2}, ValueError),
        ({"kernel_size": 0}, ValueError),
        ({"kernel_size": 3.0}, TypeError),
        ({"use_spatial": 1}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.TripletAttention(**arguments)
