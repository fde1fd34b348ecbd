"""SqueezeExcite beside torch's own operators."""

import keras
import numpy as np
import pytest

import keras_attention as ka

torch = pytest.importorskip("torch", reason="needs the extra 'test-torch'")


def test_forward_equals_torch():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 7, 5, 22)).astype("float32")
    layer = ka.SqueezeExcite(ratio=2, data_format="channels_last")
    layer.build(x.shape)
    weights = [
        generator.normal(size=w.shape).astype("float32")
        for w in layer.get_weights()
    ]
    layer.set_weights(weights)
    w1, b1, w2, b2 = (torch.tensor(w) for w in weights)

    z = torch.tensor(x).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.adaptive_avg_pool2d(z, 1).flatten(1)
    hidden = torch.relu(torch.nn.functional.linear(pooled, w1.T, b1))
    gate = torch.sigmoid(torch.nn.functional.linear(hidden, w2.T, b2))
    expected = (z * gate[..., None, None]).permute(0, 2, 3, 1).numpy()

    y = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
