"""What cannot be inserted is refused, with what can be done."""

import re

import keras
import pytest
from keras import layers

import keras_attention as ka
from support.surgery import gate
from support.surgery import small_resnet


@pytest.mark.parametrize("sequential", [False, True])
def test_lambda_is_refused(sequential):
    parts = [
        layers.Conv2D(4, 3, name="conv"),
        layers.Lambda(lambda x: 2 * x, name="twice"),
    ]
    inputs = keras.Input((8, 8, 4))
    model = keras.Sequential([inputs, *parts])
    if not sequential:
        model = keras.Model(inputs, model(inputs))
    with pytest.raises(ValueError, match="'.*twice' .Lambda.*get_config"):
        ka.insert_attention(model, gate, "conv")


def test_layers_that_cannot_be_made_anew_are_all_named():
    class Incomplete(layers.Layer):
        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)

        def call(self, x):
            return x

    class Inner(keras.Model):
        def __init__(self, conv):
            super().__init__(name="inner")
            self.conv = conv

        def call(self, x):
            return self.conv(x)

    inputs = keras.Input((8, 8, 4))
    x = Incomplete(object(), name="first")(inputs)
    x = Incomplete(object(), name="second")(layers.Conv2D(4, 3)(x))
    model = keras.Model(inputs, Inner(layers.Conv2D(4, 3))(x))
    with pytest.raises(
        ValueError, match="'first' .Incomplete.*'second'.*'inner' .Inner"
    ):
        ka.insert_attention(model, gate, "conv")


def test_config_that_makes_other_weights():
    class Widening(layers.Layer):
        units = 3

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(4, self.units))

        def call(self, x):
            return keras.ops.matmul(x, self.kernel)

    inputs = keras.Input((8, 8, 4))
    layer = Widening(name="wide")
    layer.units = 5
    outputs = layer(layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="'wide'.*get_config"):
        ka.insert_attention(model, gate, "conv")


def test_no_place_matches_lists_those_that_exist():
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(4, 3, name="only")]
    )
    with pytest.raises(ValueError, match=r"at='residual'[^$]*conv .* only"):
        ka.insert_attention(model, gate)
    with pytest.raises(ValueError, match="only"):
        ka.insert_attention(model, gate, re.compile("nothing"))
    with pytest.raises(ValueError, match="only"):
        ka.insert_attention(model, gate, lambda site: False)
    with pytest.raises(ValueError, match="only"):
        ka.insert_attention(model, gate, [])
    dense = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="name its layers"):
        ka.insert_attention(dense, gate)


def test_long_lists_of_sites_are_cut():
    model = keras.Sequential([keras.Input((4, 4, 1))])
    for _ in range(50):
        model.add(layers.Conv2D(1, 1))
    with pytest.raises(ValueError, match=r"and 11 more: `attention_sites"):
        ka.insert_attention(model, gate, re.compile("nothing"))


@pytest.mark.parametrize(
    "at, error, words",
    [
        ("residuals", ValueError, "Did you mean 'residual'"),
        ("a_norm", ValueError, r"at=\['a_norm'\]"),
        (["a_nrm"], ValueError, "Did you mean 'a_norm'"),
        (3, TypeError, "at=3"),
        (None, TypeError, "at=None"),
    ],
)
def test_bad_places(at, error, words):
    with pytest.raises(error, match=words):
        ka.insert_attention(small_resnet(), gate, at)


def test_layer_of_a_nested_model_is_offered_by_its_path():
    inner = small_resnet()
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, inner(inputs))
    with pytest.raises(ValueError, match="Did you mean 'small_resnet/a_norm'"):
        ka.insert_attention(model, gate, ["a_norm"])


def test_bad_attention():
    model = small_resnet()
    with pytest.raises(ValueError, match="Did you mean 'squeeze_excite'"):
        ka.insert_attention(model, "squeeze_exite")
    with pytest.raises(TypeError, match="one layer"):
        ka.insert_attention(model, ka.SqueezeExcite())
    with pytest.raises(ValueError, match="keep the shape.*MaxPooling2D"):
        ka.insert_attention(model, layers.MaxPooling2D)
    with pytest.raises(ValueError, match="data format.*channels_first"):
        ka.insert_attention(
            model, lambda: ka.SqueezeExcite(data_format="channels_first")
        )
    with pytest.raises(TypeError, match="preserve_outputs=1"):
        ka.insert_attention(model, gate, preserve_outputs=1)


def test_the_same_layer_again():
    model = small_resnet()
    for shared in (ka.SqueezeExcite(2), layers.SpatialDropout2D(0.1)):
        with pytest.raises(ValueError, match="new layer at each call"):
            ka.insert_attention(model, lambda shared=shared: shared)
    # A layer without weights is built as soon as it is made.
    ka.insert_attention(model, lambda: layers.SpatialDropout2D(0.1))


def test_channels_that_are_not_defined():
    inputs = keras.Input((8, 8, None))
    x = layers.ReLU(name="relu")(inputs)
    model = keras.Model(inputs, x)
    with pytest.raises(ValueError, match="defined number of channels"):
        ka.insert_attention(model, gate, ["relu"])
