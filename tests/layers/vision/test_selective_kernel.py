import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.models.multiply_adds import count_multiply_adds
from support.arrays import numpy
from support.vision import block_diagonal
from support.vision import build
from support.vision import convolve
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import vjp

SHAPE = (3, 7, 5, 12)


def reference(x, layer, training=False):
    """Equations 1 to 6 of arXiv:1903.06586."""
    x = x.astype("float64")
    branches = []
    for dilation, convolution, norm in zip(
        layer.dilations, layer.convolutions, layer.norms, strict=True
    ):
        kernel = block_diagonal(numpy(convolution.kernel), layer.groups)
        y = convolve(x, kernel, dilation)[:, :: layer.strides, :: layer.strides]
        branches.append(relu(normalize(y, norm, training)))
    z = sum(branches).mean((1, 2)) @ numpy(layer.reduce.kernel)
    z = relu(normalize(z, layer.reduce_norm, training))
    logits = z @ numpy(layer.expand.kernel)
    logits = logits.reshape(len(x), len(branches), -1)
    scores = np.exp(logits - logits.max(1, keepdims=True))
    scores = scores / scores.sum(1, keepdims=True)
    y = sum(u * scores[:, m, None, None] for m, u in enumerate(branches))
    return y, scores


@pytest.mark.parametrize(
    "arguments",
    [
        {"groups": 1},
        {"groups": 3},
        {"groups": 12},
        {"groups": 3, "filters": 18},
        {"groups": 3, "strides": 2},
        {"groups": 3, "strides": 2, "dilations": (4, 3)},
        {"groups": 3, "strides": 3, "dilations": (1, 2, 3)},
    ],
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (2, 6, 8, 12)])
def test_equals_the_paper(arguments, training, shape):
    x = image(shape)
    layer = build(ka.SelectiveKernel(**arguments), shape)
    expected = reference(x, layer, training)
    found = layer(x, training=training, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(shape) == expected[0].shape
    assert layer.compute_scores_shape(shape) == expected[1].shape


@pytest.mark.parametrize("shape", [(1, 1, 1, 6), (2, 1, 13, 6)])
def test_small_images(shape):
    x = image(shape)
    layer = build(ka.SelectiveKernel(groups=2, strides=2), shape)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer)[0], rtol=1e-4, atol=1e-4
    )


def test_a_channel_takes_the_branch_that_it_prefers():
    layer = ka.SelectiveKernel(groups=1, min_units=1)
    x = image((1, 7, 5, 1))
    layer.build(x.shape)
    kernels = np.zeros((2, 3, 3, 1, 1))
    kernels[:, 2, 2] = 1
    for kernel, convolution in zip(kernels, layer.convolutions, strict=True):
        convolution.kernel.assign(kernel)
    for norm in (*layer.norms, layer.reduce_norm):
        norm.moving_variance.assign(norm.moving_variance - 1e-5)
    layer.reduce_norm.beta.assign([1.0])
    layer.reduce.kernel.assign([[0.0]])
    for logits, distance in (((99, 0), 1), ((0, 99), 2)):
        layer.expand.kernel.assign([logits])
        expected = np.zeros((7, 5))
        expected[:-distance, :-distance] = x[0, distance:, distance:, 0]
        np.testing.assert_allclose(
            numpy(layer(x))[0, :, :, 0], relu(expected), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("strides", [1, 2])
def test_gradient(strides):
    """Also on a backend whose own grouped convolution has none."""
    x = image((2, 3, 5, 4))
    layer = ka.SelectiveKernel(groups=2, strides=strides, min_units=8)
    build(layer, x.shape)
    dy = image(layer.compute_output_shape(x.shape), seed=5)
    expected = numeric_gradient(lambda x: reference(x, layer)[0], x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("channels", "arguments", "units"),
    [
        (128, {}, 32),
        (1024, {}, 64),
        (128, {"filters": 256, "ratio": 4}, 64),
        (128, {"groups": 1, "min_units": 3}, 8),
        (64, {"dilations": (1, 2, 3)}, 32),
    ],
)
def test_number_of_parameters(channels, arguments, units):
    layer = ka.SelectiveKernel(**arguments)
    layer.build((None, None, None, channels))
    filters, branches = layer.filters or channels, len(layer.dilations)
    convolutions = branches * filters * (9 * channels // layer.groups + 2)
    count = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert count == convolutions + units * (filters * (1 + branches) + 2)


def test_multiply_adds_count_a_group_once():
    layer = ka.SelectiveKernel(groups=4, strides=2)
    count = count_multiply_adds(layer, (7, 5, 64))
    dense = 64 * 32 + 32 * 2 * 64
    assert count == 2 * (4 * 3) * 9 * (64 // 4) * 64 + dense


def test_float16_mean_does_not_overflow():
    layer = ka.SelectiveKernel(groups=1, min_units=1, dtype="mixed_float16")
    x = np.full((1, 57, 55, 1), 30_000.0, "float16")
    layer.build(x.shape)
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    for convolution in layer.convolutions:
        convolution.kernel.assign(kernel)
    layer.reduce.kernel.assign([[1e-4]])
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y), x, rtol=3e-3)
    np.testing.assert_allclose(numpy(scores).sum(1), 1, rtol=2e-3)


def test_scores_are_tapped_and_known_without_running():
    inputs = keras.Input((None, None, 12))
    layer = ka.SelectiveKernel(groups=3, name="sk")
    y, scores = layer(inputs, return_attention_scores=True)
    assert y.shape == (None, None, None, 12)
    assert scores.shape == (None, 2, 12)
    model = keras.Model(inputs, layer(inputs))
    x = image(SHAPE)
    _, taps = read_outputs(model, x, ["sk:scores"])
    np.testing.assert_allclose(
        numpy(taps["sk:scores"]), reference(x, layer)[1], rtol=1e-4
    )


def test_initializer_and_regularizer_reach_the_kernels():
    layer = ka.SelectiveKernel(
        groups=2,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
    )
    layer.build((None, None, None, 4))
    weights = 2 * 9 * 2 * 4 + 4 * 32 + 32 * 8
    np.testing.assert_allclose(numpy(sum(layer.losses)), 0.5 * weights)


@pytest.mark.parametrize("filters", [None, 12])
def test_groups_that_do_not_divide(filters):
    channels = 12 if filters is None else 10
    layer = ka.SelectiveKernel(filters, groups=5, name="sk")
    with pytest.raises(
        ValueError, match=f"groups=5 for {channels} channels and 12 f.*'sk'"
    ):
        layer.build((None, 4, 4, channels))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"filters": 0}, ValueError),
        ({"filters": 2.0}, TypeError),
        ({"dilations": (1,)}, ValueError),
        ({"dilations": (2, 2)}, ValueError),
        ({"dilations": 2}, TypeError),
        ({"strides": 0}, ValueError),
        ({"groups": 0}, ValueError),
        ({"ratio": 0}, ValueError),
        ({"min_units": 0.5}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.SelectiveKernel(**arguments)
