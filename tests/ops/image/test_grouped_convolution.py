import keras
import numpy as np
import pytest

from keras_attention.ops.image import grouped_convolution as module
from keras_attention.ops.image.grouped_convolution import grouped_convolution
from support.arrays import numpy
from support.vision import image

SHAPE = (2, 7, 6, 12)


def reference(x, kernel, groups, strides, dilation):
    """The sum that a convolution is, one output value at a time."""
    batch, height, width, channels = x.shape
    size, filters = kernel.shape[0], kernel.shape[-1]
    inputs, outputs = channels // groups, filters // groups
    reach = (size - 1) // 2
    y = np.zeros((batch, -(-height // strides), -(-width // strides), filters))
    for b, row, column, f in np.ndindex(y.shape):
        start = f // outputs * inputs
        for k, m in np.ndindex(size, size):
            i = row * strides + (k - reach) * dilation
            j = column * strides + (m - reach) * dilation
            if 0 <= i < height and 0 <= j < width:
                pixel = x[b, i, j, start : start + inputs]
                y[b, row, column, f] += pixel @ kernel[k, m, :, f]
    return y


@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_equals_the_sum(groups, strides, dilation):
    x = image(SHAPE)
    kernel = image((3, 3, 12 // groups, 24), seed=1)
    y = grouped_convolution(x, kernel, groups, strides, dilation)
    np.testing.assert_allclose(
        numpy(y),
        reference(x, kernel, groups, strides, dilation),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("size", [1, 5])
def test_kernel_sizes(size):
    x, kernel = image(SHAPE), image((size, size, 4, 6), seed=1)
    y = grouped_convolution(x, kernel, 3, 2, 2)
    np.testing.assert_allclose(
        numpy(y), reference(x, kernel, 3, 2, 2), rtol=1e-4, atol=1e-5
    )


def test_by_group_equals_the_backend():
    x = keras.ops.convert_to_tensor(image(SHAPE))
    kernel = keras.ops.convert_to_tensor(image((3, 3, 4, 6), seed=1))
    np.testing.assert_allclose(
        numpy(module._convolve_by_group(x, kernel, 3, 2, 1)),
        numpy(module._convolve_natively(x, kernel, 2, 1)),
        rtol=1e-5,
        atol=1e-5,
    )
