import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.gsop import position_gate
from support.gsop import temper
from support.vision import build
from support.vision import image
from support.vision import relu

SHAPE = (3, 7, 5, 11)
variants = pytest.mark.parametrize(
    "arguments",
    [{}, {"grid_size": 2, "expansion": 3}, {"grid_size": 8}, {"grid_size": 1}],
)


def made(shape=SHAPE, **arguments):
    arguments = {"reduced_channels": 6, "grid_size": 3, **arguments}
    return temper(build(ka.PositionGSoP(**arguments), shape))


@variants
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(arguments, training):
    x = image(SHAPE)
    layer = made(**arguments)
    expected = position_gate(x, layer, training)
    gate = numpy(layer.compute_gate(x, training=training))
    assert gate.shape == (3, 7, 5, 1)
    np.testing.assert_allclose(gate, expected, rtol=1e-4, atol=1e-5)
    y = numpy(layer(x))
    np.testing.assert_allclose(
        y, relu(x * position_gate(x, layer)), rtol=1e-4, atol=1e-5
    )
    assert y.min() == 0


def test_the_gate_of_a_cell_covers_its_block():
    """16 rows over 8 cells: two by two, and each cell its own value."""
    x = image((1, 16, 24, 4))
    layer = temper(made(x.shape, grid_size=8), 0.1)
    gate = numpy(layer.compute_gate(x))[0, :, :, 0]
    blocks = gate.reshape(8, 2, 8, 3).swapaxes(1, 2).reshape(64, 6)
    np.testing.assert_allclose(blocks, blocks[:, :1].repeat(6, 1), rtol=1e-6)
    assert len(np.unique(blocks[:, 0].round(6))) > 50


def test_training_moves_all_statistics():
    layer = made()
    norms = [layer.norm, layer.row_norm]
    before = [numpy(norm.moving_variance) for norm in norms]
    layer(image(SHAPE), training=True)
    for norm, old in zip(norms, before, strict=True):
        assert (numpy(norm.moving_variance) != old).all(), norm.name


def test_float16_covariance_beyond_its_range():
    x = np.zeros((1, 2, 2, 2), "float16")
    x[..., 0] = 40_000
    layer = ka.PositionGSoP(2, 1, grid_size=2, dtype="mixed_float16")
    layer.build(x.shape)
    layer.reduce.kernel.assign(np.eye(2)[None, None])
    layer.row_norm.moving_variance.assign([16e16] * 4)
    layer.row_convolution.kernel.assign(np.ones((4, 4, 1)) / 4)
    layer.expand.kernel.assign(np.eye(4))
    gate = numpy(layer.compute_gate(x)).ravel()
    np.testing.assert_allclose(gate, 1 / (1 + np.exp(-1)), atol=2e-3)
    assert np.isfinite(numpy(layer(x))).all()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduced_channels": -1}, ValueError),
        ({"expansion": "4"}, TypeError),
        ({"grid_size": 0}, ValueError),
        ({"grid_size": (8, 8)}, TypeError),
        ({"data_format": "NHWC"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.PositionGSoP(**arguments)


def test_bad_shapes():
    with pytest.raises(ValueError, match="rank 4"):
        ka.PositionGSoP().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.PositionGSoP().build((None, 8, 8, None))
