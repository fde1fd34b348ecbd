import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image


def reference(x, layer):
    """Figure 4 of arXiv:2101.11605, score by score."""
    x = x.astype("float64")
    batch, height, width, _ = x.shape
    query, key, value = (
        x @ numpy(d.kernel) + (numpy(d.bias) if layer.use_bias else 0)
        for d in (layer.query, layer.key, layer.value)
    )
    rows, columns = numpy(layer.row_positions), numpy(layer.column_positions)
    places = list(np.ndindex(height, width))
    outputs, every = [], []
    for q, k, v in zip(
        *(np.split(z, layer.num_heads, -1) for z in (query, key, value)),
        strict=True,
    ):
        logits = np.zeros((batch, len(places), len(places)))
        for i, (x_, y_) in enumerate(places):
            for j, (r, c) in enumerate(places):
                keys = k[:, r, c]
                keys = keys + rows[r - x_ + height - 1]
                keys = keys + columns[c - y_ + width - 1]
                logits[:, i, j] = (q[:, x_, y_] * keys).sum(-1)
        logits /= np.sqrt(q.shape[-1])
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        outputs.append(scores @ v.reshape(batch, len(places), -1))
        every.append(scores)
    y = np.concatenate(outputs, axis=-1)
    return y.reshape(batch, height, width, -1), np.stack(every, axis=1)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 5, 3, 8), {}),
        ((1, 3, 5, 7), {"filters": 12, "num_heads": 3, "use_bias": True}),
        ((2, 1, 5, 4), {"num_heads": 1}),
        ((3, 1, 1, 5), {"num_heads": 5}),
    ],
)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = build(ka.BottleneckAttention(**arguments), shape)
    expected = reference(x, layer)
    found = layer(x, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert tuple(found[1].shape) == layer.compute_scores_shape(shape)
    other = ka.BottleneckAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected[0]), rtol=1e-4, atol=1e-4
    )
    assert (
        other.compute_output_shape(first(x).shape) == first(expected[0]).shape
    )


def test_worked_by_hand():
    """By positions alone: each takes the pixel below, if there is one."""
    layer = ka.BottleneckAttention(num_heads=1)
    x = np.array([1, 2, 3, 4, 5, 6], "float32").reshape(1, 3, 2, 1)
    layer.build(x.shape)
    layer.query.kernel.assign([[1]])
    layer.key.kernel.assign([[0]])
    layer.value.kernel.assign([[1]])
    layer.row_positions.assign([[0], [0], [0], [200], [0]])
    layer.column_positions.assign([[0], [100], [0]])
    y = numpy(layer(x)).ravel()
    # Without a row below, the mean of the pixel's column.
    np.testing.assert_allclose(y, [3, 4, 5, 6, 3, 4], rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "channels", "expected"),
    [
        # 3 C² and a head's width for each of 2 H + 2 W - 2 distances.
        ((14, 14), 512, 3 * 512**2 + 54 * 128),
        ((7, 5), 16, 3 * 16**2 + 22 * 4),
    ],
)
def test_parameters(size, channels, expected):
    layer = ka.BottleneckAttention()
    layer.build((None, *size, channels))
    assert layer.count_params() == expected


def test_starts_as_the_authors_do():
    layer = ka.BottleneckAttention()
    layer.build((None, 31, 29, 256))
    for weight in (layer.row_positions, layer.column_positions):
        np.testing.assert_allclose(numpy(weight).std(), 1 / 8, rtol=0.05)


def test_float16_products_do_not_overflow():
    x = np.full((1, 7, 5, 4), 3_000.0, "float16")
    x[:, 4:] *= -1
    layer = ka.BottleneckAttention(num_heads=1, dtype="mixed_float16")
    layer.build(x.shape)
    for dense in (layer.query, layer.key, layer.value):
        dense.kernel.assign(np.eye(4))
    np.testing.assert_allclose(numpy(layer(x)), x, rtol=2e-3)


def test_size_must_be_known_and_stays():
    layer = ka.BottleneckAttention(name="bot")
    for shape in [(None, None, 7, 8), (None, 7, None, 8)]:
        with pytest.raises(ValueError, match=r"known height.*'bot'"):
            layer.build(shape)
    layer.build((None, 7, 5, 8))
    with pytest.raises(ValueError, match="expected axis 1"):
        layer(image((2, 5, 7, 8)))


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "bot", ["conv"], preserve_outputs=True)
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"filters": 0}, ValueError),
        ({"num_heads": 0}, ValueError),
        ({"num_heads": 4.0}, TypeError),
        ({"use_bias": 1}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.BottleneckAttention(**arguments)


def test_heads_that_do_not_divide():
    layer = ka.BottleneckAttention(name="bot")
    with pytest.raises(ValueError, match="num_heads=4 for 6 filters.*'bot'"):
        layer.build((None, 7, 7, 6))
