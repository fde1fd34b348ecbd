import keras
import numpy as np
import pytest

from keras_attention.ops import precision
from keras_attention.ops.image import gating
from support.arrays import numpy

SHAPE = (3, 7, 5, 11)


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
        found = precision.widen(image(dtype=dtype)).dtype
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


@pytest.fixture
def always_loop(monkeypatch):
    monkeypatch.setattr(gating, "LOOP_BYTES", 0)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("always_loop")
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("kind", ["channel", "spatial", "grid"])
def test_gradients_equal_the_automatic_ones(kind, data_format, jit):
    """First and second order, with a batch that is not known beforehand."""
    import tensorflow as tf

    shape = list(SHAPE)
    shapes = {"channel": (3, 1, 1, 11), "spatial": (3, 7, 5, 1)}
    gate_shape = list(shapes.get(kind, (3, 7, 1, 11)))
    if data_format == "channels_first":
        shape = [shape[i] for i in (0, 3, 1, 2)]
        gate_shape = [gate_shape[i] for i in (0, 3, 1, 2)]
    x, gate = image(shape, "float64"), 2 * image(gate_shape, "float64")
    axes = gating.spatial_axes(data_format)

    def ours(x, gate):
        mean, x = gating.means_and_image(x, data_format)
        mean = gating.expand_channel_gate(mean, data_format)
        return gating.apply_gate(x, gate * mean**2)

    def plain(x, gate):
        return x * gate * tf.reduce_mean(x, axes, keepdims=True) ** 2

    def derivatives(function, x, gate):
        with tf.GradientTape() as outer:
            outer.watch([x, gate])
            with tf.GradientTape() as inner:
                inner.watch([x, gate])
                y = function(x, gate)
            first = inner.gradient(y, [x, gate], tf.sin(y))
            total = sum(tf.reduce_sum(tf.sin(g)) for g in first)
        return y, *first, *outer.gradient(total, [x, gate])

    run = tf.function(
        lambda *values: derivatives(ours, *values),
        jit_compile=jit,
        input_signature=[
            tf.TensorSpec((None, *v.shape[1:]), v.dtype) for v in (x, gate)
        ],
    )
    for found, expected in zip(
        run(x, gate), derivatives(plain, x, gate), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("always_loop")
def test_gradient_of_a_float16_gate_is_summed_in_float32():
    import tensorflow as tf

    x = tf.ones((2, 64, 64, 3), "float16")
    gate = tf.ones((2, 1, 1, 3), "float16")
    with tf.GradientTape() as tape:
        tape.watch(gate)
        y = gating.apply_gate(x, gate)
    # A float16 sum of ones stops at 2,048.
    np.testing.assert_array_equal(tape.gradient(y, gate), 4096)
