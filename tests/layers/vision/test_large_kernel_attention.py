import math

import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image

SMALL = {"kernel_size": 3, "dilated_kernel_size": 3, "dilation": 2}


def depthwise(x, layer, dilation):
    """Each channel with its own filter, tap by tap, zeros around."""
    kernel = numpy(layer.kernel)  # [K, K, C, 1]
    reach = (len(kernel) - 1) // 2 * dilation
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    height, width = x.shape[1:3]
    y = numpy(layer.bias)
    for row in range(len(kernel)):
        for column in range(len(kernel)):
            top, left = row * dilation, column * dilation
            window = padded[:, top : top + height, left : left + width]
            y = y + window * kernel[row, column, :, 0]
    return y


def reference(x, layer):
    """Section 3.1, channels last."""
    x = x.astype("float64")
    attention = depthwise(x, layer.local, 1)
    attention = depthwise(attention, layer.dilated, layer.dilation)
    return dense(attention, layer.mix) * x


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (2, 23, 13, 5)),
        ({}, (1, 5, 3, 1)),
        (SMALL, (3, 1, 11, 7)),
        ({"dilation": 1}, (2, 1, 1, 3)),
    ],
)
def test_equals_the_paper(arguments, shape):
    x = image(shape)
    layer = build(ka.LargeKernelAttention(**arguments), shape)
    expected = reference(x, layer)
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(numpy(layer(x)), expected, **tolerance)
    layer_first = ka.LargeKernelAttention(
        **arguments, data_format="channels_first"
    )
    layer_first.build(first(x).shape)
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(first(x))), first(expected), **tolerance
    )


def test_how_far_it_sees():
    """5 + 3 * (7 - 1) = 23 rows and columns: 11 to each side."""
    layer = ka.LargeKernelAttention(
        kernel_initializer="ones", depthwise_initializer="ones"
    )
    x = np.zeros((1, 31, 31, 1), "float32")
    x[0, 15, 15] = 1
    seen = numpy(layer.compute_gate(x))[0, :, :, 0] > 0
    np.testing.assert_array_equal(seen.any(0), abs(np.arange(31) - 15) <= 11)
    np.testing.assert_array_equal(seen.any(1), abs(np.arange(31) - 15) <= 11)


@pytest.mark.parametrize(
    ("channels", "expected"), [(16, 1488), (256, 85_248), (1024, 1_127_424)]
)
def test_parameters(channels, expected):
    """26 and 50 a channel of the depthwise ones, C² + C of the last."""
    layer = ka.LargeKernelAttention()
    layer.build((None, None, None, channels))
    assert layer.count_params() == expected == channels**2 + 77 * channels


@pytest.mark.parametrize(
    ("widths", "depths", "expected"),
    [
        ((32, 64, 160, 256), (3, 3, 5, 2), "4.11M"),
        ((64, 128, 320, 512), (2, 2, 4, 2), "13.86M"),
    ],
)
def test_parameters_are_the_published_ones(widths, depths, expected):
    """Those of VAN-B0 and VAN-B1, all else counted on paper."""
    total, before = 0, 3
    for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        layer = ka.LargeKernelAttention()
        layer.build((None, None, None, width))
        kernel = 49 if number == 0 else 9
        total += (kernel * before + 5) * width  # Convolution, two norms.
        hidden = width * (8 if number < 2 else 4)
        block = layer.count_params() + 2 * (width**2 + width)
        block += 6 * width  # Two norms, two scales.
        block += 2 * width * hidden + 11 * hidden + width
        total += depth * block
        before = width
    total += 1000 * before + 1000  # The classifier.
    assert f"{total / 1e6:.2f}M" == expected


def test_first_values_are_the_authors():
    """A channel of a depthwise convolution sees its own filter alone."""
    layer = ka.LargeKernelAttention()
    layer.build((None, None, None, 300))
    for sublayer, size in ((layer.local, 5), (layer.dilated, 7)):
        found = numpy(sublayer.kernel).std()
        np.testing.assert_allclose(found, math.sqrt(2) / size, rtol=0.05)
    assert not np.any(numpy(layer.local.bias))


def test_float16_near_its_limits():
    """The gate is small: there is no sigmoid to keep it so."""
    x = np.full((1, 57, 55, 2), 60_000.0, "float16")
    layer = ka.LargeKernelAttention(dtype="mixed_float16")
    layer.build(x.shape)
    for sublayer, mean in ((layer.local, 1 / 25), (layer.dilated, 1e-4 / 49)):
        sublayer.kernel.assign(np.full(sublayer.kernel.shape, mean))
    layer.mix.kernel.assign(np.full((2, 2), 0.05))
    expected = reference(x, layer)
    assert 3e4 < np.abs(expected).max() < 65_504
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=2e-2)


@pytest.mark.tensorflow
def test_insertion_keeps_the_outputs_at_first():
    model = ka.models.WideResNet(10, 1, input_shape=(8, 8, 3))
    gated = ka.insert_attention(model, "lka", preserve_outputs=True)
    x = image((2, 8, 8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))
    assert gated.count_params() > model.count_params()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kernel_size": 4}, ValueError),
        ({"dilated_kernel_size": 0}, ValueError),
        ({"dilation": 1.5}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.LargeKernelAttention(**arguments)
