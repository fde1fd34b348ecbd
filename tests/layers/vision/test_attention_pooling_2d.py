import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image


def reference(x, layer, heads):
    """The mean attends to itself and to every position, head by head."""
    x = x.astype("float64")
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    tokens = np.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1)
    tokens = tokens + numpy(layer.positions)
    query = np.split(dense(tokens[:, 0], layer.query), heads, axis=-1)
    key = np.split(dense(tokens, layer.key), heads, axis=-1)
    value = np.split(dense(tokens, layer.value), heads, axis=-1)
    outputs, scores = [], []
    for q, k, v in zip(query, key, value, strict=True):
        logits = np.einsum("bd,btd->bt", q, k) / np.sqrt(q.shape[-1])
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        outputs.append(np.einsum("bt,btd->bd", weights, v))
        scores.append(weights)
    y = dense(np.concatenate(outputs, axis=-1), layer.project)
    return y, np.stack(scores, axis=1)[:, :, None]


@pytest.mark.parametrize(
    ("shape", "arguments", "heads"),
    [
        ((2, 7, 5, 12), {"num_heads": 3, "output_dim": 11}, 3),
        ((1, 5, 3, 128), {}, 2),
        ((3, 1, 1, 5), {"num_heads": 5}, 5),
    ],
)
def test_equals_the_paper(shape, arguments, heads):
    x = image(shape)
    layer = build(ka.AttentionPooling2D(**arguments), shape)
    expected = reference(x, layer, heads)
    found = layer(x, return_attention_scores=True)
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected[0]).max()}
    np.testing.assert_allclose(numpy(layer(x)), expected[0], **tolerance)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, **tolerance)
    assert tuple(found[1].shape) == layer.compute_scores_shape(shape)
    other = ka.AttentionPooling2D(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    y = numpy(other(first(x)))
    np.testing.assert_allclose(y, expected[0], **tolerance)


def test_worked_by_hand():
    """Without queries and positions: the mean of the mean and the others."""
    layer = ka.AttentionPooling2D(num_heads=1)
    x = np.array([[[[3.0], [5.0], [10.0]]]], "float32")
    layer.build(x.shape)
    layer.set_weights([np.zeros(w.shape) for w in layer.weights])
    layer.value.kernel.assign([[2]])
    layer.project.kernel.assign([[1]])
    layer.project.bias.assign([1])
    layer.positions.assign([[0], [4], [0], [0]])
    mean = (6 + 3 + 4 + 5 + 10) / 4
    np.testing.assert_allclose(numpy(layer(x)), [[2 * mean + 1]], rtol=1e-6)


def test_parameters():
    """CLIP's ResNet-50: 14.8 million of 2048 channels, 7 x 7 and 1024."""
    layer = ka.AttentionPooling2D(1024)
    layer.build((None, 7, 7, 2048))
    attention = 3 * 2048 * 2049 + 2049 * 1024
    assert layer.count_params() == attention + 50 * 2048 == 14_789_632
    assert layer.compute_scores_shape((None, 7, 7, 2048)) == (None, 32, 1, 50)


def test_starts_as_the_authors_do():
    """A standard deviation of one by the root of the channels."""
    layer = ka.AttentionPooling2D()
    layer.build((None, 17, 19, 64))
    for weight in (layer.positions, layer.query.kernel, layer.project.kernel):
        np.testing.assert_allclose(numpy(weight).std(), 1 / 8, rtol=0.05)


def test_float16_at_its_limits():
    """The sum of all positions is none of its numbers."""
    x = np.full((1, 57, 55, 4), 1_000.0, "float16")
    layer = ka.AttentionPooling2D(num_heads=1, dtype="mixed_float16")
    layer.build(x.shape)
    for name in ("query", "key", "value", "project"):
        getattr(layer, name).kernel.assign(np.eye(4))
    np.testing.assert_allclose(numpy(layer(x)), 1_000, rtol=3e-3)


def test_size_must_be_known_and_stays():
    layer = ka.AttentionPooling2D(name="pool")
    for shape in [(None, None, 7, 8), (None, 7, None, 8)]:
        with pytest.raises(ValueError, match=r"known height.*'pool'"):
            layer.build(shape)
    layer.build((None, 7, 5, 8))
    with pytest.raises(ValueError, match="expected axis 1"):
        layer(image((2, 5, 7, 8)))


def test_in_a_network():
    inputs = keras.Input((7, 5, 8))
    y = ka.AttentionPooling2D(3, 2)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(y))
    assert model.predict(image((5, 7, 5, 8)), verbose=0).shape == (5, 2)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"output_dim": 0}, ValueError),
        ({"output_dim": 1.0}, TypeError),
        ({"num_heads": 0}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.AttentionPooling2D(**arguments)


def test_heads_that_do_not_divide():
    layer = ka.AttentionPooling2D(num_heads=5, name="pool")
    with pytest.raises(ValueError, match="num_heads=5 for 8 channels.*'pool'"):
        layer.build((None, 7, 7, 8))
