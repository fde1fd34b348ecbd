import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models.multiply_adds import count_multiply_adds
from support.arrays import numpy
from support.vision import block_diagonal
from support.vision import build
from support.vision import convolve
from support.vision import first
from support.vision import image
from support.vision import normalize
from support.vision import relu
from support.vision import sigmoid

SHAPE = (3, 7, 5, 12)


def by_group(x, dense):
    """A dense layer of each group's channels, one after the other."""
    kernel, bias = numpy(dense.kernel), numpy(dense.bias)
    parts = np.split(x, len(kernel), axis=-1)
    return [part @ kernel[g] + bias[g] for g, part in enumerate(parts)]


def reference(x, layer, training=False):
    """Equations 1 to 3 of arXiv:2004.08955, group by group."""
    x = x.astype("float64")
    kernel = block_diagonal(
        numpy(layer.convolution.kernel), layer.groups * layer.radix
    )
    y = convolve(x, kernel, layer.dilation)
    y = y[:, :: layer.strides, :: layer.strides]
    splits = np.split(
        relu(normalize(y, layer.norm, training)), layer.radix, axis=-1
    )
    z = sum(splits).mean((1, 2))
    z = np.concatenate(by_group(z, layer.reduce), axis=-1)
    z = relu(normalize(z, layer.reduce_norm, training))
    scores = []
    for logits in by_group(z, layer.expand):  # Those of all splits.
        logits = np.stack(np.split(logits, layer.radix, axis=-1), axis=1)
        if layer.radix == 1:
            scores.append(sigmoid(logits))
            continue
        weights = np.exp(logits - logits.max(1, keepdims=True))
        scores.append(weights / weights.sum(1, keepdims=True))
    scores = np.concatenate(scores, axis=-1)  # [B, r, F]
    y = sum(u * scores[:, r, None, None] for r, u in enumerate(splits))
    return y, scores


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"groups": 2, "radix": 3},
        {"groups": 4, "radix": 1, "min_units": 4},
        {"radix": 1},
        {"groups": 2, "filters": 22},
        {"strides": 2, "kernel_size": 5},
        {"dilation": 2, "radix": 4, "ratio": 1},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(arguments, training):
    x = image(SHAPE)
    layer = build(ka.SplitAttention(**arguments), SHAPE)
    expected = reference(x, layer, training)
    found = layer(x, training=training, return_attention_scores=True)
    # The deviation of three examples' units may be near zero.
    tolerance = 1e-2 if training else 2e-4
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            numpy(ours), theirs, rtol=1e-4, atol=tolerance
        )
    assert tuple(found[1].shape) == layer.compute_scores_shape(SHAPE)
    other = ka.SplitAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    y, _ = reference(x, layer)
    np.testing.assert_allclose(
        numpy(other(first(x))), first(y), rtol=1e-4, atol=2e-4
    )


def test_worked_by_hand():
    """Two splits of one channel each, of which the second is chosen."""
    layer = ka.SplitAttention(1, kernel_size=1, min_units=1)
    x = np.array([[[[1.0, 2.0], [3.0, 6.0]]]], "float32")
    layer.build(x.shape)
    layer.convolution.kernel.assign(np.ones((1, 1, 1, 2)))
    layer.norm.moving_variance.assign([1 - 1e-5] * 2)
    layer.expand.bias.assign([[0, np.log(3)]])
    layer.expand.kernel.assign(np.zeros((1, 1, 2)))
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(scores), [[[0.25], [0.75]]], rtol=1e-6)
    expected = [0.25 * 1 + 0.75 * 2, 0.25 * 3 + 0.75 * 6]
    np.testing.assert_allclose(numpy(y).ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [({}, 64), ({"groups": 2, "radix": 2}, 128), ({"radix": 1}, 33)],
)
def test_parameters(arguments, channels):
    layer = ka.SplitAttention(**arguments)
    layer.build((None, None, None, channels))
    groups, radix = layer.groups, layer.radix
    units = max(channels * radix // 4, 32)
    expected = 9 * channels**2 // groups + 2 * radix * channels
    expected += (channels * units + units * radix * channels) // groups
    expected += 3 * units + radix * channels
    found = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert found == expected
    adds = 9 * channels**2 // groups * 35
    adds += (channels * units + units * radix * channels) // groups
    assert count_multiply_adds(layer, (7, 5, channels)) == adds


def test_float16_at_its_limits():
    """A sum over a few positions is no number of float16."""
    x = np.full((1, 57, 55, 4), 10_000.0, "float16")
    layer = ka.SplitAttention(
        kernel_size=1, radix=4, min_units=4, dtype="mixed_float16"
    )
    layer.build(x.shape)
    layer.convolution.kernel.assign(np.ones((1, 1, 1, 16)))
    layer.reduce.kernel.assign(np.zeros((1, 4, 4)))
    y = numpy(layer(x))
    np.testing.assert_allclose(y, 10_000, rtol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"filters": 0}, ValueError),
        ({"kernel_size": 2}, ValueError),
        ({"strides": 0}, ValueError),
        ({"dilation": 0}, ValueError),
        ({"groups": 2.0}, TypeError),
        ({"radix": 0}, ValueError),
        ({"ratio": 0}, ValueError),
        ({"min_units": 0}, ValueError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.SplitAttention(**arguments)


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [
        ({}, 7),
        ({"groups": 2}, 6),
        ({"groups": 3, "radix": 1}, 6),
        ({"groups": 2, "filters": 5}, 8),
    ],
)
def test_groups_that_do_not_divide(arguments, channels):
    layer = ka.SplitAttention(**arguments, name="splat")
    with pytest.raises(ValueError, match=f"{channels} channels.*'splat'"):
        layer.build((None, 7, 5, channels))
