import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import find_layer
from keras_attention.inspection import read_outputs
from keras_attention.inspection import record_outputs
from keras_attention.inspection import walk_layers
from support.arrays import numpy


def image(shape=(2, 8, 8, 3)):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture
def backbone():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    y = ka.SqueezeExcite(ratio=2, name="se")(x)
    y = keras.layers.Dropout(0.5, name="dropout")(y)
    return keras.Model(inputs, keras.ops.add(x, y), name="backbone")


@pytest.fixture
def nested(backbone):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x))


class Subclassed(keras.Model):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool")

    def call(self, x, training=None):
        return self.pool(self.backbone(x, training=training))


def test_outputs_are_those_of_a_submodel(nested, backbone):
    x = image()
    expected = keras.Model(backbone.input, backbone.get_layer("se").output)(x)
    outputs, values = read_outputs(nested, x, ["backbone/se", "head"])
    np.testing.assert_array_equal(numpy(values["backbone/se"]), numpy(expected))
    np.testing.assert_array_equal(numpy(values["head"]), numpy(outputs))
    np.testing.assert_array_equal(numpy(outputs), numpy(nested(x)))


def test_subclassed_model(backbone):
    model = Subclassed(backbone)
    x = image()
    _, values = read_outputs(model, x, ["backbone/conv", "pool"])
    assert values["backbone/conv"].shape == (2, 8, 8, 6)
    assert values["pool"].shape == (2, 6)


def test_operation_that_is_no_layer(backbone):
    (name,) = (op.name for op in backbone.operations if "add" in op.name)
    outputs, values = read_outputs(backbone, image(), [name])
    np.testing.assert_array_equal(numpy(values[name]), numpy(outputs))


def test_gate_times_input_is_the_output(backbone):
    x = image()
    _, values = read_outputs(backbone, x, ["conv", "se", "se:gate"])
    np.testing.assert_allclose(
        numpy(values["conv"]) * numpy(values["se:gate"]),
        numpy(values["se"]),
        rtol=1e-6,
    )


def test_scores_of_keras_attention_leave_the_output_alone():
    inputs = keras.Input((5, 8))
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    model = keras.Model(inputs, attention(inputs, inputs))
    x = image((3, 5, 8))
    outputs, values = read_outputs(model, x, ["attention:scores", "attention"])
    scores = numpy(values["attention:scores"])
    assert scores.shape == (3, 2, 5, 5)
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(numpy(outputs), numpy(model(x)), atol=1e-6)


def test_training_mode_reaches_the_layers(nested):
    x = image()
    _, values = read_outputs(nested, x, ["backbone/dropout"], training=True)
    assert (numpy(values["backbone/dropout"]) == 0).mean() > 0.2


def test_the_model_is_left_as_it_was(backbone):
    before = {path: set(vars(layer)) for path, layer in walk_layers(backbone)}
    with (
        pytest.raises(RuntimeError, match="stop"),
        record_outputs(backbone, ["conv", "se:gate", "se"]),
    ):
        raise RuntimeError("stop")
    after = {path: set(vars(layer)) for path, layer in walk_layers(backbone)}
    assert before == after


def test_unknown_name_offers_the_nearest(nested):
    with pytest.raises(ValueError, match="Did you mean 'backbone/se'"):
        find_layer(nested, "se")
    with pytest.raises(ValueError, match="Did you mean 'head'"):
        find_layer(nested, "haed")


def test_one_name_is_no_list_of_its_letters(backbone):
    with pytest.raises(TypeError, match="must be given as a list of names"):
        read_outputs(backbone, image(), "conv")


def test_layer_without_gate_or_scores(backbone):
    with (
        pytest.raises(ValueError, match="no `compute_gate`"),
        record_outputs(backbone, ["conv:gate"]),
    ):
        pass
    with (
        pytest.raises(ValueError, match="no attention scores"),
        record_outputs(backbone, ["conv:scores"]),
    ):
        pass


def test_layer_not_called_or_called_twice(nested):
    with record_outputs(nested, ["head"]) as values:
        pass
    with pytest.raises(ValueError, match="0 calls"):
        values["head"]
    with record_outputs(nested, ["head"]) as values:
        nested(image())
        nested(image())
    with pytest.raises(ValueError, match="2 calls"):
        values["head"]
