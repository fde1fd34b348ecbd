import math

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import record_outputs
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp

SHAPE = (3, 7, 5, 6)
KINDS = {
    "θ⁻": {},
    "θ": {"learned_gather": True},
    "θ⁺": {"learned_gather": True, "learned_excite": True, "ratio": 2},
    "excite": {"learned_excite": True, "ratio": 3},
}
kinds = pytest.mark.parametrize("arguments", KINDS.values(), ids=KINDS)
extents = pytest.mark.parametrize("extent", [None, 2, 4, 8])


def average(x, extent):
    """Windows of `2 extent - 1` around each `extent`-th position."""
    if extent is None:
        return x.mean((1, 2), keepdims=True)
    rows, columns = (range(0, size, extent) for size in x.shape[1:3])
    cells = [
        [
            x[
                :,
                max(i - extent + 1, 0) : i + extent,
                max(j - extent + 1, 0) : j + extent,
            ].mean((1, 2))
            for j in columns
        ]
        for i in rows
    ]
    return np.moveaxis(np.array(cells), 2, 0)


def depthwise(x, kernel, strides, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = kernel.shape[:2]
    rows = range(0, x.shape[1] - height + 1, strides)
    columns = range(0, x.shape[2] - width + 1, strides)
    cells = [
        [
            (x[:, i : i + height, j : j + width] * kernel[..., 0]).sum((1, 2))
            for j in columns
        ]
        for i in rows
    ]
    return np.moveaxis(np.array(cells), 2, 0)


def cells(x, layer, training=False):
    """Section 3 of arXiv:1810.12348: gathered and excited, not yet resized."""
    x = x.astype("float64")
    if not layer.learned_gather:
        x = average(x, layer.extent)
    else:
        settings = (1, 0) if layer.extent is None else (2, 1)
        last = len(layer.norms) - 1
        for number, norm in enumerate(layer.norms):
            kernel = numpy(layer.convolutions[number].kernel)
            x = normalize(depthwise(x, kernel, *settings), norm, training)
            if number < last:
                x = relu(x)
        assert len(layer.norms) == int(math.log2(layer.extent or 2))
    if layer.learned_excite:
        x = relu(x) if layer.learned_gather else x
        x = dense(relu(dense(x, layer.reduce)), layer.expand)
    return sigmoid(x)


def reference(x, layer, training=False):
    gate = cells(x, layer, training)
    rows = [i * gate.shape[1] // x.shape[1] for i in range(x.shape[1])]
    columns = [j * gate.shape[2] // x.shape[2] for j in range(x.shape[2])]
    return x * gate[:, rows][:, :, columns]


@kinds
@extents
@pytest.mark.parametrize("size", [(7, 5), (8, 16), (1, 3)])
def test_equals_the_paper(arguments, extent, size):
    x = image((3, *size, 6))
    layer = build(ka.GatherExcite(extent, **arguments), x.shape)
    for training in (False, True):
        expected = reference(x, layer, training)
        y = numpy(layer(x, training=training))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_worked_by_hand():
    """Extent 2 of the row 1, 3, 5, 7, 100: means 2, 5 and 53.5.

    Row `i` of 5 takes cell floor(3 i / 5): 0, 0, 1, 1, 2.
    """
    x = np.array([1, 3, 5, 7, 100], "float32").reshape(1, 1, 5, 1)
    gate = numpy(ka.GatherExcite(2).compute_gate(x)).ravel()
    np.testing.assert_allclose(
        gate, sigmoid(np.array([2, 2, 5, 5, 53.5])), rtol=1e-6
    )


def test_strided_convolutions_are_padded_alike_on_both_sides():
    """`same` padding of an even size would start a row later."""
    layer = ka.GatherExcite(2, learned_gather=True)
    x = np.arange(1, 5, dtype="float32").reshape(1, 4, 1, 1) / 10
    layer.build(x.shape)
    kernel = np.zeros((3, 3, 1, 1))
    kernel[0, 1] = 1  # the row above
    layer.convolutions[0].kernel.assign(kernel)
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(
        gate, sigmoid(np.array([0, 0, 0.2, 0.2])), rtol=1e-4
    )


def test_learned_excite_of_the_whole_image_is_squeeze_excite():
    x = image(SHAPE)
    layer = build(ka.GatherExcite(learned_excite=True, ratio=2), SHAPE)
    squeeze_excite = ka.SqueezeExcite(ratio=2)
    squeeze_excite.build(SHAPE)
    squeeze_excite.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(squeeze_excite(x)), rtol=1e-5, atol=1e-6
    )


@kinds
@pytest.mark.parametrize("extent", [None, 2])
@pytest.mark.parametrize("size", [(5, 3), (4, 2)])
def test_gradient(arguments, extent, size):
    shape = (1, *size, 3)
    x, dy = image(shape), image(shape, seed=5)
    layer = build(ka.GatherExcite(extent, **arguments), shape)
    expected = numeric_gradient(lambda x: reference(x, layer), x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=1e-4
    )


def test_no_gate_of_the_size_of_the_image_is_made(monkeypatch):
    layer = ka.GatherExcite(4)
    x = image((2, 8, 12, 3))
    expected = reference(x, layer)

    def refuse(*arguments):
        raise RuntimeError("resized")

    monkeypatch.setattr(
        "keras_attention.ops.image.grid_pooling.nearest_resize", refuse
    )
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5)
    with pytest.raises(RuntimeError, match="resized"):
        layer(image((2, 10, 12, 3)))


@extents
def test_gate_covers_the_image(extent):
    x = image(SHAPE)
    model = keras.Sequential([ka.GatherExcite(extent, name="gate")])
    with record_outputs(model, ["gate:gate"]) as values:
        y = model(x)
    gate = numpy(values["gate:gate"])
    assert gate.shape == ((3, 1, 1, 6) if extent is None else SHAPE)
    np.testing.assert_allclose(x * gate, numpy(y), rtol=1e-5)


@extents
@pytest.mark.parametrize("value", [60_000.0, -60_000.0])
def test_float16_sums_do_not_overflow(extent, value):
    x = np.full((1, 32, 32, 3), value, "float16")
    layer = ka.GatherExcite(extent, dtype="mixed_float16")
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_array_equal(gate, float(value > 0))
    assert np.isfinite(numpy(layer(x))).all()


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 0),
        ({"extent": 8}, 0),
        ({"extent": 2, "learned_gather": True}, 32 * (9 + 2)),
        ({"extent": 8, "learned_gather": True}, 3 * 32 * (9 + 2)),
        ({"learned_gather": True}, 32 * (7 * 5 + 2)),
        (
            {"learned_gather": True, "learned_excite": True},
            32 * (7 * 5 + 2) + 2 * 32 * 2 + 2 + 32,
        ),
        ({"learned_excite": True, "ratio": 8}, 2 * 32 * 4 + 4 + 32),
    ],
)
def test_number_of_parameters(arguments, count):
    layer = ka.GatherExcite(**arguments)
    layer.build((None, 7, 5, 32))
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) == count


def test_initializers_and_regularizers_reach_the_weights():
    layer = ka.GatherExcite(
        4,
        True,
        True,
        ratio=2,
        kernel_initializer=keras.initializers.RandomNormal(),
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 4))
    one, two = (numpy(c.kernel) for c in layer.convolutions)
    assert (one != two).any()
    kernels = [one, two, numpy(layer.reduce.kernel), numpy(layer.expand.kernel)]
    expected = sum(0.5 * (k**2).sum() for k in kernels) + 0.25 * (2 + 4)
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("size", [(None, 5), (7, None), (None, None)])
def test_global_learned_gather_needs_the_size(data_format, size):
    layer = ka.GatherExcite(
        learned_gather=True, data_format=data_format, name="gate"
    )
    last = data_format == "channels_last"
    shape = (None, *size, 8) if last else (None, 8, *size)
    with pytest.raises(ValueError, match=r"height and width.*'gate'.*extent"):
        layer.build(shape)


def test_global_learned_gather_keeps_its_size():
    layer = ka.GatherExcite(learned_gather=True)
    layer.build((None, 7, 5, 4))
    with pytest.raises(ValueError, match="incompatible"):
        layer(image((1, 7, 6, 4)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"extent": 3}, ValueError),
        ({"extent": 16}, ValueError),
        ({"extent": "global"}, ValueError),
        ({"learned_gather": 1}, TypeError),
        ({"learned_excite": None}, TypeError),
        ({"ratio": 0}, ValueError),
        ({"data_format": "NHWC"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.GatherExcite(**arguments)


def test_bad_shapes():
    with pytest.raises(ValueError, match="rank 4"):
        ka.GatherExcite().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.GatherExcite().build((None, 8, 8, None))
