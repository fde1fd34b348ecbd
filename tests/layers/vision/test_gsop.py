import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from support.arrays import numpy
from support.gsop import channel_gate
from support.gsop import position_gate
from support.gsop import temper
from support.vision import build
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import vjp

SHAPE = (3, 7, 5, 11)
FUSIONS = ("average", "add", "max", "concat")


def made(shape=SHAPE, **arguments):
    arguments = {"reduced_channels": 6, "grid_size": 3, **arguments}
    return temper(build(ka.GSoP(**arguments), shape))


def convolve_groups(x, layer):
    """Along the height, each group of filters on its group of channels."""
    kernel, groups = numpy(layer.kernel)[:, 0], layer.groups
    size, inputs, filters = kernel.shape
    reach, outputs = (size - 1) // 2, filters // groups
    padded = np.pad(x, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    y = np.zeros((*x.shape[:3], filters))
    for group in range(groups):
        seen = slice(group * inputs, (group + 1) * inputs)
        made = slice(group * outputs, (group + 1) * outputs)
        for tap in range(size):
            rows = padded[:, tap : tap + x.shape[1], :, seen]
            y[..., made] += rows @ kernel[tap][:, made]
    return y + numpy(layer.bias)


def reference(x, layer, training=False):
    channel = x * channel_gate(x, layer.channel_gsop, training)
    position = relu(x * position_gate(x, layer.position_gsop, training))
    if layer.fusion == "max":
        return np.maximum(channel, position)
    if layer.fusion == "concat":
        y = convolve_groups(channel, layer.channel_fusion)
        y = y + convolve_groups(position, layer.position_fusion)
        return normalize(y, layer.norm, training)
    total = channel + position
    return total / 2 if layer.fusion == "average" else total


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(fusion, training):
    x = image(SHAPE)
    layer = made(fusion=fusion, strides=2, activation="tanh")
    expected = reference(x, layer, training)
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradient(fusion):
    shape = (1, 3, 2, 3)
    x, dy = image(shape), image(shape, seed=5)
    layer = made(shape, fusion=fusion, reduced_channels=3, grid_size=2)
    expected = numeric_gradient(lambda x: reference(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=2e-4
    )


def test_convolutions_of_a_concatenation_have_groups():
    x = image((2, 7, 5, 192))
    layer = made(x.shape, fusion="concat")
    assert layer.channel_fusion.groups == 3
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("channels", "groups", "size"),
    [
        (256, 4, 11),
        (512, 8, 9),
        (1024, 16, 7),
        (2048, 32, 5),
        (16, 1, 15),
        (200, 1, 15),
        (4096, 64, 3),
        (16_384, 256, 1),
    ],
)
def test_size_and_groups_of_the_authors(channels, groups, size):
    convolution = ka.GSoP(fusion="concat")._convolution(channels, "fusion")
    assert convolution.groups == groups
    assert convolution.kernel_size == (size, 1)


def test_concatenation_has_no_gate_but_two():
    x = image(SHAPE)
    layer = made(fusion="concat")
    with pytest.raises(ValueError, match="sublayers `channel_gsop` and"):
        layer.compute_gate(x)
    names = ["channel_gsop:gate", "position_gsop:gate"]
    y, gates = read_outputs(layer, x, names)
    np.testing.assert_allclose(numpy(y), reference(x, layer), atol=1e-4)
    np.testing.assert_allclose(
        numpy(gates["position_gsop:gate"]),
        position_gate(x, layer.position_gsop),
        atol=1e-5,
    )


@pytest.mark.parametrize("fusion", ["average", "max"])
def test_gate_is_between_0_and_1(fusion):
    layer = made(fusion=fusion)
    gate = numpy(layer.compute_gate(3 * image(SHAPE)))
    assert gate.min() >= 0 and gate.max() <= 1


@pytest.mark.parametrize("fusion", ["average", "add", "max"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_gate_in_half_precision(fusion, dtype):
    x = image(SHAPE)
    layer = made(fusion=fusion, dtype=dtype)
    expected = made(fusion=fusion).compute_gate(x)
    gate = layer.compute_gate(x)
    assert keras.backend.standardize_dtype(gate.dtype) == layer.compute_dtype
    np.testing.assert_allclose(numpy(gate), numpy(expected), atol=6e-2)


def test_initializers_of_the_sublayers_differ():
    layer = ka.GSoP(6, fusion="concat", bias_initializer="ones")
    layer.build((None, None, None, 8))
    kernels = [
        numpy(s.kernel) for s in (layer.channel_fusion, layer.position_fusion)
    ]
    assert (kernels[0] != kernels[1]).any()
    assert (numpy(layer.position_gsop.expand.bias) == 1).all()
    assert (numpy(layer.channel_fusion.bias) == 1).all()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduced_channels": 0}, ValueError),
        ({"expansion": None}, TypeError),
        ({"strides": -1}, ValueError),
        ({"grid_size": 0}, ValueError),
        ({"fusion": "averag"}, ValueError),
        ({"data_format": "NHWC"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.GSoP(**arguments)
    with pytest.raises(ValueError, match="Did you mean 'average'"):
        ka.GSoP(fusion="averag")
