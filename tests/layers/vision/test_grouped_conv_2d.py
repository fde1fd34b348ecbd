import numpy as np
import pytest

from keras_attention.layers.vision.grouped_conv_2d import GroupedConv2D
from keras_attention.ops.image.grouped_convolution import grouped_convolution
from support.arrays import numpy
from support.vision import build
from support.vision import image

SHAPE = (2, 7, 6, 12)


@pytest.mark.parametrize("spacing", [1, 2])
def test_is_the_function_with_a_kernel(spacing):
    x = image(SHAPE)
    layer = build(GroupedConv2D(6, 3, 3, spacing, 2), SHAPE)
    (kernel,) = layer.weights
    expected = grouped_convolution(x, kernel.value, 3, spacing, 2)
    y = numpy(layer(x))
    np.testing.assert_array_equal(y, numpy(expected))
    assert layer.compute_output_shape(SHAPE) == y.shape
    unknown = layer.compute_output_shape((None, None, 6, 12))
    assert unknown == (None, None, *y.shape[2:])


def test_config_round_trip():
    config = GroupedConv2D(6, 3, 3, 2, 2, name="conv").get_config()
    assert GroupedConv2D.from_config(config).get_config() == config
    assert config["groups"] == 3
    assert config["spacing"] == config["dilation"] == 2
