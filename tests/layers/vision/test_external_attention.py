import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import normalize
from support.vision import relu


def reference(x, layer, training=False):
    """Equations 5 and 6 inside the authors' module, channels last."""
    shape, x = x.shape, x.astype("float64").reshape(len(x), -1, x.shape[-1])
    attention = dense(x, layer.query) @ numpy(layer.memory_key.kernel)
    attention = np.exp(attention - attention.max(1, keepdims=True))
    attention /= attention.sum(1, keepdims=True)  # Over the positions.
    attention /= 1e-9 + attention.sum(2, keepdims=True)  # Over the memory.
    y = attention @ numpy(layer.memory_value.kernel)
    y = normalize(y @ numpy(layer.projection.kernel), layer.norm, training)
    return relu(x + y).reshape(shape), attention


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (5, (2, 7, 5, 12)),
        (3, (1, 5, 3, 1)),
        (1, (3, 1, 11, 5)),
        (4, (2, 1, 1, 6)),
    ],
)
def test_equals_the_paper(size, shape, training):
    x = image(shape)
    layer = build(ka.ExternalAttention(size), shape)
    # A softmax that is not all at one position.
    layer.memory_key.kernel.assign(0.1 * layer.memory_key.kernel)
    expected, attention = reference(x, layer, training)
    tolerance = {"rtol": 2e-4, "atol": 2e-4}
    weights = layer.get_weights()
    y, scores = layer(x, training=training, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y), expected, **tolerance)
    np.testing.assert_allclose(numpy(scores), attention, **tolerance)
    np.testing.assert_allclose(numpy(scores).sum(-1), 1, rtol=1e-5)
    layer_first = ka.ExternalAttention(size, data_format="channels_first")
    layer_first.build(first(x).shape)
    layer_first.set_weights(weights)
    np.testing.assert_allclose(
        numpy(layer_first(first(x), training=training)),
        first(expected),
        **tolerance,
    )


def test_a_constant_image_by_hand():
    """Every position attends to all slots alike: the mean of the values."""
    layer = ka.ExternalAttention(2)
    x = np.ones((1, 2, 3, 1), "float32")
    layer.build(x.shape)
    layer.memory_value.kernel.assign([[3.0], [5.0]])
    layer.projection.kernel.assign([[2.0]])
    y = numpy(layer(x))
    np.testing.assert_allclose(y, 1 + 8 / np.sqrt(1 + 1e-5), rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "expected"), [(256, 164_608), (512, 591_360)]
)
def test_parameters(channels, expected):
    """C² + C, 2 · 64 C, C² and 2 C of the normalization."""
    layer = ka.ExternalAttention()
    layer.build((None, None, None, channels))
    found = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert found == expected == 2 * channels**2 + 131 * channels


def test_shapes_of_open_sizes():
    layer = ka.ExternalAttention(5)
    y, scores = layer(
        keras.KerasTensor((None, None, 4, 6)), return_attention_scores=True
    )
    assert y.shape == (None, None, 4, 6)
    assert scores.shape == (None, None, 5)
    assert layer.compute_scores_shape((2, 7, 5, 6)) == (2, 35, 5)


def test_scores_of_many_positions_in_float16():
    """The softmax over a million positions is less than float16 can hold."""
    layer = ka.ExternalAttention(3, dtype="mixed_float16")
    x = np.zeros((1, 1024, 1024, 2), "float16")
    _, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(scores), 1 / 3, rtol=2e-3)


@pytest.mark.tensorflow
def test_insertion_keeps_the_outputs_at_first():
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))
    gated = ka.insert_attention(
        model, "external_attention", preserve_outputs=True
    )
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"memory_size": 0}, ValueError),
        ({"memory_size": 2.0}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ExternalAttention(**arguments)
