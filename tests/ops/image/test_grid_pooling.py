import math

import keras
import numpy as np
import pytest

from conformance.harness import float64_mode
from keras_attention.ops.image import grid_pooling
from support.arrays import numpy
from support.vision import first
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp

SIZES = [(7, 5), (8, 8), (14, 14), (16, 24), (1, 1), (3, 19), (13, 2)]


def adaptive(x, height, width):
    """Cell by cell."""
    found = np.zeros((x.shape[0], height, width, x.shape[3]))
    for i in range(height):
        rows = slice(
            math.floor(i * x.shape[1] / height),
            math.ceil((i + 1) * x.shape[1] / height),
        )
        for j in range(width):
            columns = slice(
                math.floor(j * x.shape[2] / width),
                math.ceil((j + 1) * x.shape[2] / width),
            )
            found[:, i, j] = x[:, rows, columns].mean((1, 2))
    return found


def local(x, extent):
    """Zero padding of `extent - 1`, divided by what is in the image."""
    reach = extent - 1
    pad = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    total, inside = np.pad(x, pad), np.pad(np.ones_like(x), pad)
    rows, columns = (math.ceil(size / extent) for size in x.shape[1:3])
    found = np.zeros((x.shape[0], rows, columns, x.shape[3]))
    for i in range(rows):
        for j in range(columns):
            window = (
                slice(None),
                slice(i * extent, i * extent + 2 * extent - 1),
                slice(j * extent, j * extent + 2 * extent - 1),
            )
            found[:, i, j] = total[window].sum((1, 2)) / inside[window].sum(
                (1, 2)
            )
    return found


def resize(x, height, width):
    rows = [i * x.shape[1] // height for i in range(height)]
    columns = [j * x.shape[2] // width for j in range(width)]
    return x[:, rows][:, :, columns]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", [(8, 8), (3, 5), (1, 1), (11, 2)])
def test_adaptive_average_pool(size, grid):
    x = image((2, *size, 3))
    found = numpy(grid_pooling.adaptive_average_pool(x, *grid))
    np.testing.assert_allclose(found, adaptive(x, *grid), rtol=1e-5, atol=1e-6)


def test_adaptive_average_pool_by_hand():
    """Of 5 rows in 2 cells the third is in both; 2 in 3 share the middle."""
    x = np.arange(1, 6, dtype="float32").reshape(1, 5, 1, 1)
    found = numpy(grid_pooling.adaptive_average_pool(x, 2, 1)).ravel()
    np.testing.assert_allclose(found, [2, 4])
    found = numpy(grid_pooling.adaptive_average_pool(x[:, :2], 3, 1)).ravel()
    np.testing.assert_allclose(found, [1, 1.5, 2])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extent", [2, 4, 8])
def test_local_average_pool(size, extent):
    x = image((2, *size, 3))
    found = numpy(grid_pooling.local_average_pool(x, extent))
    np.testing.assert_allclose(found, local(x, extent), rtol=1e-5, atol=1e-6)


def test_local_average_pool_by_hand():
    x = np.array([1, 3, 5, 7, 100], "float32").reshape(1, 1, 5, 1)
    found = numpy(grid_pooling.local_average_pool(x, 2)).ravel()
    np.testing.assert_allclose(found, [2, 5, 53.5])


@pytest.mark.parametrize("cells", [(4, 3), (1, 1), (7, 5), (8, 6)])
@pytest.mark.parametrize("size", [(7, 5), (8, 6), (16, 6), (29, 3)])
def test_nearest_resize(cells, size):
    x = image((2, *cells, 3))
    found = numpy(grid_pooling.nearest_resize(x, *size))
    np.testing.assert_array_equal(found, resize(x, *size))


def test_nearest_resize_by_hand():
    """7 from 4: rows 0 to 6 take 0, 0.57, 1.14, 1.71, 2.29, 2.86, 3.43."""
    x = np.arange(4, dtype="float32").reshape(1, 4, 1, 1)
    found = numpy(grid_pooling.nearest_resize(x, 7, 1)).ravel()
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 3]
    found = numpy(grid_pooling.nearest_resize(x, 8, 1)).ravel()
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("size", "cells"),
    [((8, 6), (4, 3)), ((8, 6), (2, 6)), ((7, 6), (4, 3)), ((7, 5), (1, 1))],
)
def test_scale_cells(size, cells, data_format):
    x, gate = image((2, *size, 3)), image((2, *cells, 3), seed=1)
    expected = x * resize(gate, *size)
    if data_format == "channels_first":
        x, expected = first(x), first(expected)
    x = keras.ops.convert_to_tensor(x)
    found = numpy(grid_pooling.scale_cells(x, gate, data_format))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(8, 6), (7, 6)])
def test_gradient_of_scale_cells(size):
    x, gate = image((1, *size, 2)), image((1, 4, 3, 2), seed=1)
    dy = image(x.shape, seed=2)
    whole = keras.ops.convert_to_tensor(x)
    found = vjp(lambda g: grid_pooling.scale_cells(whole, g), gate, dy)
    expected = numeric_gradient(lambda g: x * resize(g, *size), gate, dy)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)
    found = vjp(lambda x: grid_pooling.scale_cells(x, gate), x, dy)
    np.testing.assert_allclose(
        numpy(found), dy * resize(gate, *size), rtol=1e-6
    )


def test_gradient_of_the_poolings():
    x = image((1, 5, 3, 2))
    for function, exact in [
        (
            lambda x: grid_pooling.adaptive_average_pool(x, 2, 4),
            lambda x: adaptive(x, 2, 4),
        ),
        (
            lambda x: grid_pooling.local_average_pool(x, 2),
            lambda x: local(x, 2),
        ),
    ]:
        dy = image(exact(x).shape, seed=2)
        np.testing.assert_allclose(
            numpy(vjp(function, x, dy)),
            numeric_gradient(exact, x, dy),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    x = keras.ops.cast(np.full((1, 32, 32, 1), 60_000.0), dtype)
    for found in (
        grid_pooling.adaptive_average_pool(x, 3, 5),
        grid_pooling.local_average_pool(x, 8),
    ):
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        np.testing.assert_allclose(
            numpy(found), numpy(x)[0, 0, 0, 0], rtol=1e-5
        )


def test_float64_stays():
    x = image((2, 7, 5, 3), dtype="float64")
    with float64_mode():
        whole = keras.ops.convert_to_tensor(x)
        even, even_whole = x[:, :6, :4], whole[:, :6, :4]
        for found, expected in [
            (
                grid_pooling.adaptive_average_pool(whole, 3, 8),
                adaptive(x, 3, 8),
            ),
            (grid_pooling.local_average_pool(whole, 2), local(x, 2)),
            (grid_pooling.local_average_pool(even_whole, 2), local(even, 2)),
        ]:
            assert keras.backend.standardize_dtype(found.dtype) == "float64"
            np.testing.assert_allclose(numpy(found), expected, atol=1e-14)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_sizes_unknown_while_the_graph_is_traced(jit_compile):
    import tensorflow as tf

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec((None, None, None, 3))],
    )
    def run(x):
        gate = grid_pooling.local_average_pool(x, 4)
        return grid_pooling.adaptive_average_pool(
            x, 8, 8
        ), grid_pooling.scale_cells(x, gate)

    for size in [(7, 5), (16, 24)]:
        x = image((2, *size, 3))
        pooled, scaled = run(x)
        np.testing.assert_allclose(
            pooled, adaptive(x, 8, 8), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            scaled, x * resize(local(x, 4), *size), rtol=1e-5, atol=1e-6
        )


def test_weighted_sum():
    x, kernel = image((2, 5, 3, 7)), image((5, 3, 7), seed=1)
    np.testing.assert_allclose(
        numpy(grid_pooling.weighted_sum(x, kernel))[:, 0, 0],
        np.einsum("bhwc,hwc->bc", x.astype("float64"), kernel),
        rtol=1e-5,
        atol=1e-5,
    )
