import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops import criss_cross_attention
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import graph_of_images
from support.vision import image


def attend(query, key, value):
    """Equations 1 and 2, one position after the other."""
    batch, height, width, _ = query.shape
    y = np.zeros((*query.shape[:3], value.shape[-1]))
    scores = np.zeros((batch, height, width, height + width))
    for row, column in np.ndindex(height, width):
        # The H + W - 1 positions of the cross, and where their scores are.
        cross = [(r, column, r) for r in range(height) if r != row]
        cross += [(row, c, height + c) for c in range(width)]
        rows, columns, places = np.array(cross).T
        logits = np.einsum(
            "bd,bkd->bk", query[:, row, column], key[:, rows, columns]
        )
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        scores[:, row, column, places] = weights
        y[:, row, column] = np.einsum(
            "bk,bkd->bd", weights, value[:, rows, columns]
        )
    return y, scores


def reference(x, layer):
    x, every = x.astype("float64"), []
    for _ in range(layer.recurrence):
        y, scores = attend(
            *(dense(x, d) for d in (layer.query, layer.key, layer.value))
        )
        x = numpy(layer.scale) * y + x
        every.append(scores)
    return x, np.stack(every, axis=1)


def built(layer, shape):
    """With weights for which the softmax is no choice of one position."""
    build(layer, shape)
    layer.set_weights([0.3 * weight for weight in layer.get_weights()])
    return layer


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 7, 5, 17), {}),
        ((1, 3, 11, 8), {"recurrence": 1}),
        ((2, 5, 3, 4), {"recurrence": 3, "reduced_channels": 3}),
        ((2, 1, 5, 3), {}),
        ((2, 5, 1, 3), {}),
        ((3, 1, 1, 5), {}),
    ],
)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = built(ka.CrissCrossAttention(**arguments), shape)
    expected = reference(x, layer)
    found = layer(x, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert tuple(found[1].shape) == layer.compute_scores_shape(shape)
    other = ka.CrissCrossAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected[0]), rtol=1e-4, atol=1e-4
    )


def test_worked_by_hand():
    """Products of zero: each position takes the mean of its cross."""
    x = np.arange(6, dtype="float32").reshape(1, 2, 3, 1)
    zeros = np.zeros_like(x)
    y, scores = criss_cross_attention(zeros, zeros, x)
    # Of 0 1 2 above 3 4 5.
    means = [[6 / 4, 7 / 4, 8 / 4], [12 / 4, 13 / 4, 14 / 4]]
    np.testing.assert_allclose(numpy(y)[0, :, :, 0], means, rtol=1e-6)
    np.testing.assert_allclose(
        numpy(scores)[0, 0, 1], [0, 0.25, 0.25, 0.25, 0.25], rtol=1e-6
    )


def test_twice_reaches_every_position():
    """Of one corner, the opposite one."""
    x = image((1, 5, 7, 4))
    changed = x.copy()
    changed[:, 0, 0] += 1
    for recurrence in (1, 2):
        layer = built(ka.CrissCrossAttention(recurrence), x.shape)
        reached = np.abs(numpy(layer(x)) - numpy(layer(changed))).max(-1) > 0
        cross = np.zeros((5, 7), bool)
        cross[0] = cross[:, 0] = True
        np.testing.assert_array_equal(reached[0], cross | (recurrence > 1))


def test_starts_as_the_identity():
    x = image((2, 7, 5, 8))
    np.testing.assert_array_equal(numpy(ka.CrissCrossAttention()(x)), x)


@pytest.mark.parametrize(("channels", "width"), [(512, 64), (17, 2), (5, 1)])
def test_parameters(channels, width):
    layer = ka.CrissCrossAttention()
    layer.build((None, None, None, channels))
    expected = 2 * (channels + 1) * width + (channels + 1) * channels + 1
    assert layer.count_params() == expected
    assert layer.query.units == width


def test_float16_products_do_not_overflow():
    x = np.full((1, 13, 11, 4), 3_000.0, "float16")
    x[:, 5:] *= -1
    y, scores = criss_cross_attention(x, x, x)
    np.testing.assert_allclose(numpy(y), x, rtol=1e-3)
    np.testing.assert_allclose(numpy(scores).sum(-1), 1, rtol=1e-5)


@pytest.mark.tensorflow
def test_one_graph_takes_every_size():
    layer = built(ka.CrissCrossAttention(), (None, None, None, 4))
    graph = graph_of_images(layer, 4)
    for size in [(7, 5), (1, 3), (1, 1)]:
        x = image((2, *size, 4))
        for found, expected in zip(graph(x), reference(x, layer), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "criss_cross", ["conv"])
    x = image((2, 9, 9, 3))
    np.testing.assert_allclose(numpy(found(x)), numpy(model(x)), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"recurrence": 0}, ValueError),
        ({"recurrence": 1.0}, TypeError),
        ({"reduced_channels": 0}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.CrissCrossAttention(**arguments)
