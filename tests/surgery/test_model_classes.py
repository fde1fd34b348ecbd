"""Models of a class of their own: what insertion keeps, warns of, refuses."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_attention as ka
from keras_attention.surgery import ModelWithAttributes
from support.surgery import gate
from support.surgery import image
from support.surgery import small_resnet


@keras.saving.register_keras_serializable("tests")
class Counting(keras.Model):
    """A training step of its own, and the constructor of keras.Model."""

    def train_step(self, data):
        x, y = data
        self.steps = getattr(self, "steps", 0) + 1
        return super().train_step((x, self.factor * y))

    def double(self, x):
        return 2 * self(x)


@keras.saving.register_keras_serializable("tests")
class Tempered(keras.Model):
    """A constructor argument of its own, in its configuration."""

    def __init__(self, inputs, outputs, name=None, temperature=1.0, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.temperature = temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


def graph():
    model = small_resnet()
    return model.input, model.output


def counting():
    model = Counting(*graph(), name="mine")
    model.factor = 3.0
    model.tracker = keras.metrics.Mean(name="tracked")
    return model


def test_class_methods_and_attributes_are_kept(tmp_path):
    model = counting()
    gated = ka.insert_attention(model, gate, preserve_outputs=True)
    assert type(gated) is Counting and gated.name == "mine"
    assert gated.factor == 3.0
    assert isinstance(gated.tracker, keras.metrics.Mean)
    assert gated.tracker is not model.tracker
    x = image((4, 16, 16, 3))
    np.testing.assert_array_equal(gated.double(x), model.double(x))
    gated.compile("sgd", "mse", run_eagerly=True)
    gated.fit(x, np.ones((4, 3)), epochs=2, batch_size=2, verbose=0)
    assert gated.steps == 4 and not hasattr(model, "steps")
    gated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is Counting
    np.testing.assert_array_equal(loaded(x), gated(x))
    assert type(ka.remove_attention(gated)) is Counting


def test_data_keep_their_types():
    model = counting()
    model.compile("sgd", "mse")
    model.fit(image((4, 16, 16, 3)), np.ones((4, 3)), verbose=0)
    model.size, model.priors = (16, 16), np.arange(3.0)
    model.names, model._margin = {"a", "b"}, 0.5
    model.closed = lambda: model.factor
    # A function may refer to the old model.
    with pytest.warns(UserWarning, match="configuration: closed. Set"):
        gated = ka.insert_attention(model, gate)
    assert gated.size == (16, 16) and gated.names == {"a", "b"}
    assert gated._margin == 0.5
    np.testing.assert_array_equal(gated.priors, model.priors)
    assert gated.priors is not model.priors and not gated.compiled
    gated.compile("sgd", "mse")
    gated.fit(image((4, 16, 16, 3)), np.ones((4, 3)), verbose=0)


def test_arguments_in_the_configuration_are_kept():
    model = Tempered(*graph(), temperature=7.0)
    # Keras makes this class from a saved graph only with `name` as the last
    # positional argument, so it is one of those that cannot be kept.
    with pytest.warns(UserWarning, match="Lost: its class Tempered") as caught:
        gated = ka.insert_attention(model, gate)
    assert "`temperature`" in str(caught[0].message)
    assert gated.temperature == 7.0

    class KeywordOnly(keras.Model):
        def __init__(self, inputs, outputs, name=None, *, power=1, **kwargs):
            super().__init__(inputs, outputs, name=name, **kwargs)
            self.power = power

        def get_config(self):
            return {**super().get_config(), "power": self.power}

    model = KeywordOnly(*graph(), power=5)
    # Keras 3.12 rebuilds no class with arguments of its own.
    if keras.version() < "3.13":
        with pytest.warns(UserWarning, match="Lost: its class KeywordOnly"):
            gated = ka.insert_attention(model, gate)
    else:
        gated = ka.insert_attention(model, gate)
        assert type(gated) is KeywordOnly
    assert gated.power == 5


def test_nested_model_keeps_its_class():
    inner = counting()
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    gated = ka.insert_attention(model, gate)
    assert type(gated.get_layer("mine")) is Counting
    assert gated.get_layer("mine").factor == 3.0


def test_sequential_class():
    class Chain(keras.Sequential):
        def train_step(self, data):
            return {"seen": self.weight}

    model = Chain([keras.Input((8, 8, 4)), layers.Conv2D(4, 3, name="conv")])
    model.weight = 2.5
    gated = ka.insert_attention(model, gate, "conv")
    assert type(gated) is Chain and gated.weight == 2.5

    class Built(keras.Sequential):
        def __init__(self, filters):
            super().__init__([keras.Input((8, 8, 4)), layers.Conv2D(4, 3)])

    with pytest.warns(UserWarning, match="Lost: its class Built"):
        gated = ka.insert_attention(Built(4), gate, "conv")
    assert type(gated) is keras.Sequential


class Backbone(keras.Model):
    """As KerasCV's: builds its graph from its constructor's arguments."""

    def __init__(self, width, **kwargs):
        super().__init__(*graph(), **kwargs)
        self.width = width
        self._levels = {"P1": "a_out", "P2": "b_out"}

    @property
    def pyramid_level_inputs(self):
        return self._levels

    @pyramid_level_inputs.setter
    def pyramid_level_inputs(self, value):
        self._levels = value

    def features(self):
        return list(self._levels)

    def get_config(self):
        return {"width": self.width, "name": self.name}


def test_backbone_is_warned_of_and_keeps_its_pyramid(tmp_path):
    model = Backbone(4, name="backbone")
    with pytest.warns(UserWarning) as caught:
        gated = ka.insert_attention(model, gate, "stage")
    message = str(caught[0].message)
    for words in ("class Backbone", "`features`", "Kept", "`width`"):
        assert words in message
    assert isinstance(gated, ModelWithAttributes)
    assert gated.width == 4
    assert gated.pyramid_level_inputs == {
        "P1": "a_out_attention",
        "P2": "b_out_attention",
    }
    assert model.pyramid_level_inputs == {"P1": "a_out", "P2": "b_out"}
    if keras.version() < "3.13":
        pytest.skip("keras>=3.13 saves a functional model of such a class")
    gated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.pyramid_level_inputs == gated.pyramid_level_inputs
    np.testing.assert_array_equal(loaded(image()), gated(image()))
    plain = ka.remove_attention(loaded)
    assert plain.pyramid_level_inputs == model.pyramid_level_inputs
    np.testing.assert_array_equal(plain(image()), model(image()))


def test_own_training_of_a_class_that_cannot_be_kept_is_refused():
    class Detector(Backbone):
        def train_step(self, data):
            return {}

        def compute_loss(self, *args, **kwargs):
            return 0.0

    with pytest.raises(ValueError, match="`compute_loss`, `train_step` would"):
        ka.insert_attention(Detector(4), gate)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, Detector(4)(inputs))
    with pytest.raises(ValueError, match="such as its backbone"):
        ka.insert_attention(model, gate)


def test_attribute_that_cannot_be_kept_is_warned_of():
    model = counting()
    model.helper = object()
    with pytest.warns(UserWarning, match="without the attributes.*helper"):
        gated = ka.insert_attention(model, gate)
    assert not hasattr(gated, "helper")


def test_attributes_of_a_plain_model():
    """As one gives a backbone of one's own to a detector."""
    model = small_resnet()
    model.pyramid_level_inputs = {"P1": "a_out", "P2": "b_out"}
    model.class_names = ["cat", "dog"]
    gated = ka.insert_attention(model, gate, ["b_out"])
    assert gated.class_names == ["cat", "dog"]
    assert gated.pyramid_level_inputs == {
        "P1": "a_out",
        "P2": "b_out_attention",
    }
    model.train_step = lambda data: {}
    with pytest.warns(UserWarning, match="without the attributes.*train_step"):
        ka.insert_attention(model, gate)


def test_what_keras_sets_while_training_is_no_attribute():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse", metrics=["mae"])
    x = image((4, 4, 4, 3))
    model.fit(x, np.ones((4, 3)), verbose=0, validation_split=0.5)
    model.evaluate(x, np.ones((4, 3)), verbose=0)
    model.predict(x, verbose=0)
    # Warnings are errors.
    gated = ka.insert_attention(model, gate, at="conv")
    assert not gated.compiled
