import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image

SHAPE = (3, 7, 5, 11)


def reference(x, layer):
    """Section 3.3 of arXiv:1911.06667."""
    z = dense(x.astype("float64").mean((1, 2)), layer.excite)
    return x * (np.clip(z + 3, 0, 6) / 6)[:, None, None, :]


def test_equals_the_paper():
    x = image(SHAPE)
    layer = build(ka.EffectiveSqueezeExcite(), SHAPE)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-5, atol=1e-5
    )


def test_the_gate_is_hard():
    """Means 4, -4 and 0 through the identity: 1, 0 and a half."""
    layer = ka.EffectiveSqueezeExcite()
    x = np.zeros((1, 2, 3, 3), "float32")
    x[..., :] = [4, -4, 0]
    layer.build(x.shape)
    layer.set_weights([np.eye(3), np.zeros(3)])
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_array_equal(gate, [1, 0, 0.5])


def test_number_of_parameters():
    layer = ka.EffectiveSqueezeExcite()
    layer.build((None, None, None, 256))
    assert layer.count_params() == 256 * 256 + 256


@pytest.mark.parametrize("value", [100.0, 60_000.0])
def test_float16_extremes(value):
    layer = ka.EffectiveSqueezeExcite(dtype="mixed_float16")
    x = np.full((1, 57, 55, 3), value, "float16")
    layer.build(x.shape)
    layer.set_weights([np.eye(3) / value, np.zeros(3)])
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, 4 / 6, rtol=2e-3)
    assert np.isfinite(numpy(layer(x))).all()


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.EffectiveSqueezeExcite(
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    expected = 0.5 * 36 + 0.25 * 6
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="Received: data_format="):
        ka.EffectiveSqueezeExcite(data_format="NHWC")
    with pytest.raises(ValueError, match="rank 3, 4 or 5"):
        ka.EffectiveSqueezeExcite().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.EffectiveSqueezeExcite().build((None, 8, 8, None))
