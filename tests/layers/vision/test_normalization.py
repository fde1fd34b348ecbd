"""Normalizations inside our layers, of inputs with a large mean."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.layers.registry import ATTENTION_LAYERS
from keras_attention.layers.vision.normalization import (
    CenteredBatchNormalization,
)
from keras_attention.layers.vision.normalization import (
    CenteredGroupNormalization,
)
from support.arrays import numpy

EPSILON = 1e-3


def inputs(mean=1000):
    random = np.random.default_rng(0)
    return (mean + random.normal(size=(3, 5, 7, 6))).astype("float32")


def normalized(x, axes):
    x = x.astype("float64")
    deviation = x - x.mean(axes, keepdims=True)
    square = np.square(deviation).mean(axes, keepdims=True)
    return deviation / np.sqrt(square + EPSILON)


@pytest.mark.parametrize("axis", [-1, 1])
def test_batch_normalization(axis):
    layer = CenteredBatchNormalization(axis=axis, momentum=0.75)
    x = inputs()
    axes = (0, 1, 2) if axis == -1 else (0, 2, 3)
    np.testing.assert_allclose(
        numpy(layer(x, training=True)), normalized(x, axes), atol=1e-3
    )
    wide = x.astype("float64")
    np.testing.assert_allclose(
        numpy(layer.moving_mean), wide.mean(axes) / 4, rtol=1e-5
    )
    np.testing.assert_allclose(
        numpy(layer.moving_variance), 0.75 + wide.var(axes) / 4, rtol=1e-4
    )


def test_group_normalization():
    layer = CenteredGroupNormalization(2, epsilon=EPSILON)
    x = inputs()
    grouped = x.reshape(3, 5, 7, 2, 3)
    expected = normalized(grouped, (1, 2, 4)).reshape(x.shape)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-3)


@pytest.mark.parametrize(
    "kind", dict.fromkeys(ATTENTION_LAYERS.values()), ids=lambda e: e.__name__
)
def test_layers_have_no_other_normalization(kind):
    """Of those that average over examples or positions."""
    layer = kind()
    shape = (None, 8, 8, 64)
    if isinstance(layer, ka.AttentionGate):
        shape = [shape, (None, 4, 4, 64)]
    layer.build(shape)
    for norm in layer._flatten_layers():
        if isinstance(norm, keras.layers.BatchNormalization):
            assert isinstance(norm, CenteredBatchNormalization)
        if isinstance(norm, keras.layers.GroupNormalization):
            assert isinstance(norm, CenteredGroupNormalization)
