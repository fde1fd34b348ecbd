import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image


def reference(x, layer):
    """Algorithm 1 of arXiv:2106.13112, window by window."""
    x = x.astype("float64")
    batch, height, width, channels = x.shape
    size, step, heads = layer.kernel_size, layer.strides, layer.num_heads
    head, reach = channels // heads, size // 2
    values = (x @ numpy(layer.value.kernel)).reshape(*x.shape[:3], heads, head)
    rows, columns = -(-height // step), -(-width // step)
    y = np.zeros_like(values)
    scores = np.zeros((batch, rows, columns, heads, size**2, size**2))
    for b, i, j, n in np.ndindex(batch, rows, columns, heads):
        top, left = i * step, j * step
        cell = x[b, top : top + step, left : left + step].mean((0, 1))
        logits = dense(cell, layer.score).reshape(heads, size**2, size**2)[n]
        logits = np.exp((logits - logits.max(-1, keepdims=True)) / head**0.5)
        attention = logits / logits.sum(-1, keepdims=True)
        scores[b, i, j, n] = attention
        places = [
            (top + u - reach, left + v - reach)
            for u in range(size)
            for v in range(size)
        ]
        is_inside = [0 <= r < height and 0 <= c < width for r, c in places]
        window = np.array(
            [
                values[b, r, c, n] if inside else np.zeros(head)
                for (r, c), inside in zip(places, is_inside, strict=True)
            ]
        )
        update = attention @ window
        for (r, c), inside, change in zip(
            places, is_inside, update, strict=True
        ):
            if inside:
                y[b, r, c, n] += change
    return dense(y.reshape(x.shape), layer.projection), scores


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 7, 5, 6), {"num_heads": 3}),
        ((2, 5, 7, 6), {"num_heads": 2, "strides": 1}),
        ((1, 7, 11, 4), {"num_heads": 1, "kernel_size": 5, "strides": 3}),
        ((3, 1, 1, 4), {"num_heads": 4}),
        ((2, 3, 2, 4), {"num_heads": 2, "kernel_size": 7, "strides": 5}),
    ],
)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = build(ka.OutlookAttention(**arguments), shape)
    expected = reference(x, layer)
    found = layer(x, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert tuple(found[1].shape) == layer.compute_scores_shape(shape)
    other = ka.OutlookAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected[0]), rtol=1e-4, atol=1e-4
    )


def test_worked_by_hand():
    """Equal scores: each window adds its mean, zeros around included."""
    layer = ka.OutlookAttention(1, strides=1)
    layer.build((1, 1, 3, 1))
    one, zero = np.ones((1, 1)), np.zeros((1, 81))
    layer.set_weights([one, zero, zero[0], one, np.zeros(1)])
    x = np.array([9.0, 18.0, 27.0], "float32").reshape(1, 1, 3, 1)
    # The windows' means are 27 / 9, 54 / 9 and 45 / 9.
    np.testing.assert_allclose(numpy(layer(x)).ravel(), [9, 14, 11], rtol=1e-6)


def test_parameters():
    layer = ka.OutlookAttention(6)
    layer.build((None, None, None, 192))
    assert layer.count_params() == 2 * 192**2 + 192 + 193 * 81 * 6


def test_float16_at_its_limits():
    """A sum over windows is no number of float16 until it is projected."""
    layer = ka.OutlookAttention(1, strides=1, dtype="mixed_float16")
    layer.build((1, 5, 7, 1))
    zero = np.zeros((1, 81))
    one = np.ones((1, 1))
    layer.set_weights([one, zero, zero[0], one, np.zeros(1)])
    x = np.full((1, 5, 7, 1), 7_000.0, "float16")
    inside = numpy(layer(x))[0, 2:-2, 2:-2]
    np.testing.assert_allclose(inside, np.full((1, 3, 1), 63_000), rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"num_heads": 0}, ValueError, "num_heads"),
        ({"kernel_size": 4}, ValueError, "kernel_size"),
        ({"kernel_size": 1}, ValueError, "kernel_size"),
        ({"strides": 1.5}, TypeError, "strides"),
        ({"strides": 4}, ValueError, "strides"),
    ],
)
def test_bad_arguments(arguments, error, name):
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.OutlookAttention(**arguments)


def test_channels_that_are_not_divided():
    layer = ka.OutlookAttention(name="out")
    with pytest.raises(ValueError, match="num_heads=8 for 12 channels.*'out'"):
        layer.build((None, 7, 5, 12))
