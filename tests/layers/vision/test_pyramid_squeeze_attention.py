import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import block_diagonal
from support.vision import build
from support.vision import convolve
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import relu
from support.vision import sigmoid


def reference(x, layer):
    """Equations 3 to 11 of arXiv:2105.14447, part by part."""
    x = x.astype("float64")
    parts, gates = [], []
    for convolution in layer.convolutions:
        kernel = block_diagonal(numpy(convolution.kernel), convolution.groups)
        u = convolve(x, kernel)[:, :: layer.strides, :: layer.strides]
        hidden = relu(dense(u.mean((1, 2)), layer.squeeze))
        parts.append(u)
        gates.append(sigmoid(dense(hidden, layer.excite)))
    scores = np.exp(np.stack(gates, axis=1))
    scores /= scores.sum(1, keepdims=True)
    weighted = [u * scores[:, n, None, None] for n, u in enumerate(parts)]
    return np.concatenate(weighted[::-1], axis=-1), scores


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 7, 5, 16), {"groups": (1, 2, 4, 4)}),
        ((3, 5, 7, 6), {"kernel_sizes": (1, 3), "groups": (3, 1)}),
        ((1, 1, 1, 4), {"groups": [1, 1, 1, 1], "ratio": 1}),
        (
            (2, 7, 11, 6),
            {
                "kernel_sizes": (3, 5, 3),
                "groups": (1, 3, 1),
                "filters": 9,
                "strides": 2,
            },
        ),
    ],
)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = build(ka.PyramidSqueezeAttention(**arguments), shape)
    expected = reference(x, layer)
    found = layer(x, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert tuple(found[0].shape) == layer.compute_output_shape(shape)
    assert tuple(found[1].shape) == layer.compute_scores_shape(shape)
    other = ka.PyramidSqueezeAttention(
        **arguments, data_format="channels_first"
    )
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected[0]), rtol=1e-4, atol=1e-4
    )


def test_worked_by_hand():
    """Two parts: gates of 1 and 1/2 are weights of e / (e + √e)."""
    layer = ka.PyramidSqueezeAttention(
        kernel_sizes=(1, 1), groups=(1, 1), ratio=1
    )
    layer.build((1, 1, 1, 2))
    first_kernel = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    second_kernel = np.array([0.0, 1.0]).reshape(1, 1, 2, 1)
    one, zero = np.ones((1, 1)), np.zeros(1)
    layer.set_weights([first_kernel, second_kernel, one, zero, one, zero])
    y = numpy(layer(np.array([100.0, -3.0], "float32").reshape(1, 1, 1, 2)))
    much = np.e / (np.e + np.e**0.5)
    np.testing.assert_allclose(
        y.ravel(), [-3 * (1 - much), 100 * much], rtol=1e-5
    )


@pytest.mark.parametrize("channels", [64, 256])
def test_parameters(channels):
    """As the authors' module has them."""
    layer = ka.PyramidSqueezeAttention()
    layer.build((None, None, None, channels))
    width = channels // 4
    units = width // 16
    kernels = sum(
        size**2 * channels * width // groups
        for size, groups in zip((3, 5, 7, 9), (1, 4, 8, 16), strict=True)
    )
    assert layer.count_params() == kernels + (2 * units + 1) * width + units


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"filters": 0}, ValueError, "filters"),
        ({"kernel_sizes": (3, 4)}, ValueError, "kernel_sizes"),
        ({"kernel_sizes": 3}, TypeError, "kernel_sizes"),
        ({"kernel_sizes": (3,)}, ValueError, "kernel_sizes"),
        ({"groups": ()}, TypeError, "groups"),
        ({"groups": (1, 2)}, ValueError, "groups"),
        ({"strides": 0}, ValueError, "strides"),
        ({"ratio": 2.0}, TypeError, "ratio"),
    ],
)
def test_bad_arguments(arguments, error, name):
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.PyramidSqueezeAttention(**arguments)


@pytest.mark.parametrize("channels", [18, 32])
def test_channels_that_are_not_divided(channels):
    layer = ka.PyramidSqueezeAttention(name="pyramid")
    with pytest.raises(ValueError, match=f"for {channels} channels.*'pyramid'"):
        layer.build((None, 7, 5, channels))
