"""What every layer does, of whatever kind."""

import json

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention.inspection import find_layer
from keras_attention.models import InceptionModule
from keras_attention.ops.image.local_convolution import local_convolution
from support.arrays import numpy

IMAGE, SEQUENCE = (7, 5, 8), (7, 8)
FROZEN = [
    (keras_attention.SqueezeExcite(ratio=2), IMAGE),
    (keras_attention.ExternalAttention(4), IMAGE),
    (keras_attention.AxialAttention(2), IMAGE),
    (keras_attention.BlendIn(keras_attention.CBAM(ratio=2)), IMAGE),
    (InceptionModule((2, (2, 2), (2, 2), 2), "squeeze_excite"), IMAGE),
    (keras_attention.MultiHeadAttention(2), SEQUENCE),
]


@pytest.mark.parametrize(
    ("layer", "shape"), FROZEN, ids=lambda value: type(value).__name__
)
def test_frozen_layer_of_a_file_is_frozen(layer, shape, tmp_path):
    inputs = keras.Input(shape)
    outputs = keras.layers.Dense(2)(layer(inputs))
    model = keras.Model(inputs, outputs)
    layer.trainable = False
    model.save(tmp_path / "model.keras")
    for other in (
        keras.models.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        names = [variable.path for variable in other.trainable_variables]
        assert len(names) == len(model.trainable_variables) == 2, names
        frozen = other.layers[1]
        # Statistics of a normalization do not move either.
        before = list(map(numpy, frozen.weights))
        frozen(np.ones((2, *shape), "float32"), training=True)
        for one, weight in zip(before, frozen.weights, strict=True):
            np.testing.assert_array_equal(one, numpy(weight))
        frozen.trainable = True
        assert len(other.trainable_variables) > 2


ALONE = [
    (keras_attention.CBAM(ratio=2), IMAGE, "channel_attention"),
    (keras_attention.CBAM(ratio=2), IMAGE, "channel_attention/reduce"),
    (keras_attention.MultiHeadAttention(2), SEQUENCE, "query"),
    (keras_attention.GSoP(4), IMAGE, "position_gsop/norm"),
    (keras_attention.BlendIn(keras_attention.CBAM(ratio=2)), IMAGE, "cbam"),
]


@pytest.mark.parametrize(("layer", "shape", "path"), ALONE)
def test_sublayer_that_is_frozen_alone_stays_frozen(
    layer, shape, path, tmp_path
):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    if path == "cbam":
        layer.layer.trainable = False
    else:
        find_layer(model, f"{layer.name}/{path}").trainable = False
    paths = [v.path for v in model.trainable_variables]
    assert 0 < len(paths) < len(model.variables)
    model.save(tmp_path / "model.keras")
    for other in (
        keras.models.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
        keras.Model.from_config(model.get_config()),
    ):
        assert [v.path for v in other.trainable_variables] == paths
        # And again, of a layer that came of a file.
        again = keras.models.clone_model(other)
        assert [v.path for v in again.trainable_variables] == paths
        other.trainable = False
        other.trainable = True
        count = len(keras.models.clone_model(other).trainable_variables)
        assert count == len(other.trainable_variables) > len(paths)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


@pytest.mark.parametrize(
    "layer",
    [
        keras_attention.Retention(2),
        keras_attention.MultiHeadAttention(2),
        keras_attention.ScaledDotProductAttention(),
        keras_attention.LightweightConv1D(2, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_bidirectional_is_told_what_to_do(layer):
    with pytest.raises(ValueError, match="is no keras.layers.RNN.*flip"):
        keras.layers.Bidirectional(layer)


@pytest.mark.parametrize("dtype", ["string", "complex64"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras_attention.SqueezeExcite(ratio=2), IMAGE),
        (keras_attention.NonLocal(), IMAGE),
        (keras_attention.LinearAttention(2), SEQUENCE),
        (keras_attention.AttentionPooling1D(), SEQUENCE),
        (keras_attention.LightweightConv1D(2, 3), SEQUENCE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_real_numbers_enters_no_model(layer, shape, dtype):
    with pytest.raises(TypeError, match=f"Received: a tensor of dtype {dtype}"):
        layer(keras.Input(shape, dtype=dtype))
    assert layer(keras.Input(shape, dtype="uint8")).dtype == "float32"


TAKES_IMAGES = [
    keras_attention.SimAM,
    keras_attention.CoordinateAttention,
    keras_attention.NonLocal,
    keras_attention.EfficientChannelAttention,
    keras_attention.PositionGSoP,
    keras_attention.AttentionGate,
    keras_attention.AxialAttention,
    keras_attention.CovariancePooling,
    keras_attention.StyleRecalibration,
]


@pytest.mark.parametrize("kind", TAKES_IMAGES)
def test_integers_are_floats_and_complex_numbers_are_refused(kind):
    layer = kind()
    x = np.arange(2 * 7 * 5 * 4).reshape(2, 7, 5, 4) % 17
    expected = layer(x.astype("float32"))
    np.testing.assert_allclose(
        numpy(layer(x.astype("int32"))), numpy(expected), rtol=1e-5
    )
    if hasattr(layer, "compute_gate"):
        gate = layer.compute_gate(x.astype("uint8"))
        assert keras.backend.standardize_dtype(gate.dtype) == "float32"
    with pytest.raises(TypeError, match="floats, integers or booleans"):
        layer(x.astype("complex64"))


def test_images_have_at_least_one_channel():
    for layer in (keras_attention.SimAM(), keras_attention.AxialAttention()):
        with pytest.raises(ValueError, match="at least 1"):
            layer(np.ones((2, 7, 5, 0), "float32"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (keras_attention.AttentionGate, "units"),
        (keras_attention.AttentionPooling2D, "output_dim"),
        (keras_attention.BottleneckAttention, "filters"),
        (keras_attention.CovariancePooling, "reduced_channels"),
        (keras_attention.DoubleAttention, "num_descriptors"),
        (keras_attention.FrequencyChannelAttention, "grid_size"),
        (keras_attention.SqueezeExcite, "hidden_units"),
        (keras_attention.WindowAttention, "num_heads"),
    ],
)
def test_integers_of_numpy_are_those_of_python(kind, name):
    config = kind(**{name: np.int64(8)}).get_config()
    assert type(config[name]) is int and config[name] == 8
    json.dumps(config)


def test_frequencies_may_be_integers_of_numpy():
    pairs = [list(pair) for pair in np.array([[0, 2], [1, 1]])]
    layer = keras_attention.FrequencyChannelAttention(frequencies=pairs)
    assert json.dumps(layer.get_config()["frequencies"]) == "[[0, 2], [1, 1]]"


def test_products_of_half_precision_may_cancel():
    x = np.full((1, 3, 3, 1, 1), 3e4, "float16")
    kernels = np.zeros((1, 3, 3, 1, 1, 9), "float16")
    kernels[..., 3], kernels[..., 4], kernels[..., 5] = 4, 1, -4
    y = numpy(local_convolution(x, kernels))
    np.testing.assert_array_equal(y[0, :, 1], x[0, :, 1])
    # The sum is 1 - 4 and 1 + 4 times, at the edges: too much for float16.
    assert np.isinf(y[0, :, 0]).all() and np.isinf(y[0, :, 2]).all()


@pytest.mark.parametrize(
    "layer",
    [
        keras_attention.PolarizedSelfAttention(),
        keras_attention.ExternalAttention(4),
        keras_attention.GlobalContext(),
        keras_attention.SqueezeExcite(),
    ],
    ids=lambda layer: layer.name,
)
def test_batch_may_be_empty(layer):
    x = np.ones((0, 7, 5, 4), "float32")
    assert tuple(layer(x).shape) == x.shape


def test_attention_gate_refuses_small_symbolic_images():
    layer = keras_attention.AttentionGate(sub_sampling=3)
    layer.build((None, None, None, 4))
    with pytest.raises(ValueError, match="at least `sub_sampling` rows"):
        layer(keras.Input((2, 8, 4)))
