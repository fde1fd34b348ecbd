import keras
import numpy as np
import pytest

from keras_attention.ops import gating

SHAPE = (3, 7, 5, 11)


def numpy(x):
    return keras.ops.convert_to_numpy(x).astype("float64")


def image(shape=SHAPE, dtype="float32"):
    x = np.random.default_rng(0).normal(size=shape)
    return keras.ops.cast(x.astype("float32"), dtype)


def test_spatial_axes():
    shape = np.array([2, 3, 5, 7])
    assert list(shape[list(gating.spatial_axes("channels_last"))]) == [3, 5]
    assert list(shape[list(gating.spatial_axes("channels_first"))]) == [5, 7]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_global_average_pool(dtype, data_format):
    x = image(dtype=dtype)
    mean = gating.global_average_pool(x, data_format)
    assert keras.backend.standardize_dtype(mean.dtype) == dtype
    axes = (1, 2) if data_format == "channels_last" else (2, 3)
    precision = {"float32": 1e-6, "float16": 5e-4, "bfloat16": 4e-3}[dtype]
    np.testing.assert_allclose(
        numpy(mean), numpy(x).mean(axes), atol=precision, rtol=precision
    )


@pytest.mark.parametrize("value", [100.0, 65_504.0, 6e-8])
def test_float16_extremes(value):
    x = keras.ops.cast(np.full((1, 56, 56, 2), value, "float16"), "float16")
    mean = numpy(gating.global_average_pool(x))
    np.testing.assert_array_equal(mean, numpy(x)[:, 0, 0])


def test_widen():
    dtypes = {"float16": "float32", "bfloat16": "float32", "float32": "float32"}
    for dtype, wide in dtypes.items():
        found = gating.widen(image(dtype=dtype)).dtype
        assert keras.backend.standardize_dtype(found) == wide


def test_expand_channel_gate():
    gate = image((3, 11))
    assert gating.expand_channel_gate(gate).shape == (3, 1, 1, 11)
    first = gating.expand_channel_gate(gate, "channels_first")
    assert first.shape == (3, 11, 1, 1)
    np.testing.assert_array_equal(numpy(first)[:, :, 0, 0], numpy(gate))


def test_expand_spatial_gate():
    gate = image((3, 7, 5))
    for data_format, shape in (
        ("channels_last", (3, 7, 5, 1)),
        ("channels_first", (3, 1, 7, 5)),
    ):
        expanded = gating.expand_spatial_gate(gate, data_format)
        assert expanded.shape == shape
        np.testing.assert_array_equal(
            numpy(expanded).reshape(gate.shape), numpy(gate)
        )


def test_to_channels_last():
    x = image()
    assert gating.to_channels_last(x, "channels_last") is x
    turned = gating.to_channels_last(
        keras.ops.moveaxis(x, -1, 1), "channels_first"
    )
    np.testing.assert_array_equal(numpy(turned), numpy(x))


@pytest.mark.parametrize("shape", [(3, 1, 1, 11), (3, 7, 5, 1), SHAPE])
def test_apply_gate(shape):
    x, gate = image(), image(shape)
    y = gating.apply_gate(x, gate)
    np.testing.assert_allclose(numpy(y), numpy(x) * numpy(gate), rtol=1e-6)


def test_apply_gate_keeps_the_dtype_of_the_image():
    y = gating.apply_gate(image(dtype="float16"), image((3, 1, 1, 11)))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
