import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import image
from support.vision import sigmoid

SHAPE = (3, 7, 5, 11)


def reference(x, layer):
    """Equation 4 of arXiv:1803.02579."""
    kernel, bias = numpy(layer.squeeze.kernel), numpy(layer.squeeze.bias)
    q = np.einsum("bhwc,c->bhw", x.astype("float64"), kernel[0, 0, :, 0])
    return x * sigmoid(q + bias)[..., None]


def test_equals_the_paper():
    x = image(SHAPE)
    layer = build(ka.SpatialSqueezeExcite(), SHAPE)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-5, atol=1e-5
    )


def test_worked_by_hand():
    """Logits 1 * 2 - 1 * 3 + 1 = 0 and 0 + 0 + 1 = 1."""
    layer = ka.SpatialSqueezeExcite()
    x = np.array([[[[2, 3], [0, 0]]]], "float32")
    layer.build(x.shape)
    layer.set_weights([np.reshape([1.0, -1.0], (1, 1, 2, 1)), np.ones(1)])
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, [0.5, sigmoid(1)], rtol=1e-6)
    np.testing.assert_allclose(numpy(layer(x)).ravel(), [1, 1.5, 0, 0])


def test_number_of_parameters():
    layer = ka.SpatialSqueezeExcite()
    layer.build((None, None, None, 256))
    assert layer.count_params() == 257


def test_float16_extremes():
    layer = ka.SpatialSqueezeExcite(dtype="mixed_float16")
    x = np.full((1, 3, 5, 2), 60_000, "float16")
    layer.build(x.shape)
    layer.set_weights(
        [np.reshape([1.0, -1.0], (1, 1, 2, 1)) / 60_000, np.ones(1)]
    )
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate, sigmoid(1), rtol=2e-3)


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.SpatialSqueezeExcite(
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    expected = 0.5 * 6 + 0.25
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="Received: data_format="):
        ka.SpatialSqueezeExcite(data_format="NHWC")
    with pytest.raises(ValueError, match="rank 3, 4 or 5"):
        ka.SpatialSqueezeExcite().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.SpatialSqueezeExcite().build((None, 8, 8, None))
