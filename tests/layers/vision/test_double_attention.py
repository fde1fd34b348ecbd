import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import graph_of_images
from support.vision import image


def softmax(logits, axis):
    weights = np.exp(logits - logits.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def reference(x, layer):
    """Equations 1 to 5: descriptors one by one, then positions one by one."""
    x = x.astype("float64")
    positions = x.reshape(x.shape[0], -1, x.shape[-1])
    values = dense(positions, layer.value)  # [B, M, m]
    gathering = softmax(dense(positions, layer.gather), 1)
    distributing = softmax(dense(positions, layer.distribute), 2)
    descriptors = [
        (gathering[:, :, n, None] * values).sum(1)
        for n in range(gathering.shape[-1])
    ]
    mixed = np.stack(
        [
            sum(
                distributing[:, i, n, None] * descriptor
                for n, descriptor in enumerate(descriptors)
            )
            for i in range(positions.shape[1])
        ],
        axis=1,
    )
    y = dense(mixed, layer.project).reshape(x.shape)
    y = x + y if layer.use_residual else y
    return y, np.stack([gathering, distributing], axis=1)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 7, 5, 13), {}),
        ((1, 3, 11, 8), {"gathered_channels": 5, "num_descriptors": 3}),
        ((2, 3, 5, 3), {"use_residual": False}),
        ((3, 1, 1, 7), {"num_descriptors": 2}),
    ],
)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = build(ka.DoubleAttention(**arguments), shape)
    expected = reference(x, layer)
    found = layer(x, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert tuple(found[1].shape) == layer.compute_scores_shape(shape)
    other = ka.DoubleAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected[0]), rtol=1e-4, atol=1e-4
    )


def test_worked_by_hand():
    """Two descriptors: of the bright positions and of the dark ones."""
    layer = ka.DoubleAttention(1, 2, use_residual=False)
    x = np.array([1, 3, -2, -6], "float32").reshape(1, 2, 2, 1)
    layer.build(x.shape)
    layer.value.kernel.assign([[1]])
    # The largest position and the smallest one have all of the softmax.
    layer.gather.kernel.assign([[100, -100]])
    layer.distribute.kernel.assign([[100, -100]])
    layer.project.kernel.assign([[1]])
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y).ravel(), [3, 3, -6, -6], rtol=1e-5)
    np.testing.assert_allclose(
        numpy(scores)[0, 0].T, [[0, 1, 0, 0], [0, 0, 0, 1]], atol=1e-6
    )
    np.testing.assert_allclose(
        numpy(scores)[0, 1], [[1, 0], [1, 0], [0, 1], [0, 1]], atol=1e-6
    )


@pytest.mark.parametrize("channels", [512, 17, 3])
def test_parameters(channels):
    """The paper's widths of a quarter of the channels."""
    layer = ka.DoubleAttention()
    layer.build((None, None, None, channels))
    width = max(1, channels // 4)
    expected = 3 * (channels + 1) * width + (width + 1) * channels
    assert layer.count_params() == expected


def test_float16_at_its_limits():
    """A sum of all values is no number of float16."""
    x = np.full((1, 57, 55, 4), 20_000.0, "float16")
    layer = ka.DoubleAttention(4, 3, dtype="mixed_float16")
    layer.build(x.shape)
    for name in ("value", "project"):
        getattr(layer, name).kernel.assign(np.eye(4))
    for name in ("gather", "distribute"):
        getattr(layer, name).kernel.assign(np.zeros((4, 3)))
    np.testing.assert_allclose(numpy(layer(x)), 40_000, rtol=2e-3)


@pytest.mark.tensorflow
def test_one_graph_takes_every_size():
    layer = build(ka.DoubleAttention(), (None, None, None, 4))
    graph = graph_of_images(layer, 4)
    for size in [(7, 5), (1, 1)]:
        x = image((2, *size, 4))
        for found, expected in zip(graph(x), reference(x, layer), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "a2", ["conv"], preserve_outputs=True)
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"gathered_channels": 0}, ValueError),
        ({"num_descriptors": 2.0}, TypeError),
        ({"use_residual": 1}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.DoubleAttention(**arguments)
