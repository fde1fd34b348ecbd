import functools
import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_attention as ka
from conformance.harness import gradients
from keras_attention.models import ResNet
from support.arrays import numpy
from support.surgery import block
from support.surgery import gate
from support.surgery import image
from support.surgery import names
from support.surgery import randomize
from support.surgery import small_resnet


def gates(model):
    """The names of the attention layers of a model, nested ones too."""
    return [
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, ka.SqueezeExcite)
    ]


def expected_by_hand(model, x):
    """`small_resnet` written out, with the gates before its additions."""

    def layer(name):
        return model.get_layer(name)

    x = layer("stem")(x)
    for name, shortcut in (("a", lambda x: x), ("b", layer("b_short"))):
        y = layer(f"{name}_relu1")(layer(f"{name}_conv1")(x))
        y = layer(f"{name}_norm")(layer(f"{name}_conv2")(y))
        y = layer(f"{name}_norm_attention")(y)
        x = layer(f"{name}_out")(shortcut(x) + y)
    return layer("head")(layer("pool")(x))


def test_residual_gates_are_before_the_addition():
    model = small_resnet()
    gated = ka.insert_attention(model, gate)
    x = image()
    np.testing.assert_allclose(
        numpy(gated(x)), numpy(expected_by_hand(gated, x)), rtol=1e-5
    )
    assert np.abs(numpy(gated(x)) - numpy(model(x))).max() > 1e-3


def test_weights_are_copied_and_not_shared():
    model = small_resnet()
    before = [w.copy() for w in model.get_weights()]
    y = numpy(model(image()))
    layer_names = [layer.name for layer in model.layers]
    config = model.get_config()
    gated = ka.insert_attention(model, gate, preserve_outputs=True)
    for name in layer_names:
        old, new = model.get_layer(name), gated.get_layer(name)
        assert old is not new
        for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    gated.compile("sgd", "mse")
    gated.fit(image((8, 16, 16, 3)), np.ones((8, 3)), epochs=2, verbose=0)
    assert np.abs(numpy(gated(image())) - y).max() > 0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(numpy(model(image())), y)
    assert model.get_config() == config


def test_outputs_are_preserved_and_every_weight_learns():
    model = small_resnet()
    # No rectified hidden unit, which could be silent for all of the data.
    smooth = functools.partial(ka.SqueezeExcite, ratio=2, activation="tanh")
    gated = ka.insert_attention(
        model, smooth, lambda site: True, preserve_outputs=True
    )
    x, y = image((8, 16, 16, 3)), image((8, 3))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))
    alphas = [
        layer.alpha for layer in gated.layers if isinstance(layer, ka.BlendIn)
    ]
    assert len(alphas) == 8
    gated.compile(keras.optimizers.SGD(1e-3), "mse")
    gated.train_on_batch(x, y)
    assert all(numpy(alpha) != 0 for alpha in alphas)
    found = gradients(gated, x)
    for weight, gradient in zip(gated.trainable_weights, found, strict=True):
        if "_attention" in weight.path:
            assert np.abs(gradient).max() > 0, weight.path


@pytest.mark.parametrize(
    "attention",
    [
        "squeeze_excite",
        ka.SqueezeExcite,
        functools.partial(ka.SqueezeExcite, ratio=4),
        lambda: ka.SqueezeExcite(ratio=2),
    ],
)
def test_every_way_to_say_which_attention(attention):
    inputs = keras.Input((8, 8, 16))
    model = keras.Model(inputs, block(inputs, 16, "a"))
    gated = ka.insert_attention(model, attention)
    assert gates(gated) == ["a_norm_attention"]


@pytest.mark.parametrize(
    "at, expected",
    [
        ("residual", ["a_norm", "b_norm"]),
        ("stage", ["a_out", "b_out"]),
        (
            "conv",
            ["stem", "a_relu1", "a_norm", "b_short", "b_relu1", "b_norm"],
        ),
        (["b_out", "stem"], ["stem", "b_out"]),
        (("a_add",), ["a_add"]),
        (re.compile(r"^a_.*u"), ["a_relu1", "a_out"]),
        (lambda site: site.shape[-1] == 8 and site.kind == "stage", ["b_out"]),
        (lambda site: site.name.startswith("a_norm"), ["a_norm"]),
    ],
)
def test_every_way_to_say_where(at, expected):
    gated = ka.insert_attention(small_resnet(), gate, at)
    assert sorted(gates(gated)) == sorted(f"{n}_attention" for n in expected)


def test_after_any_layer_that_is_named():
    inputs = keras.Input((7, 12))
    x = layers.Conv1D(12, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    gated = ka.insert_attention(
        model, lambda: layers.LayerNormalization(), at=["conv"]
    )
    assert [layer.name for layer in gated.layers][1:] == [
        "conv",
        "conv_attention",
        "head",
    ]


@pytest.mark.parametrize("path", ["inner/a_norm", "inner"])
def test_nested_and_shared_models(path):
    inputs = keras.Input((8, 8, 4))
    inner = keras.Model(inputs, block(inputs, 4, "a"), name="inner")
    left, right = (keras.Input((8, 8, 4), name=n) for n in ("left", "right"))
    outputs = {
        "sum": layers.Add()([inner(left), inner(right)]),
        "left": layers.Flatten()(left),
    }
    model = randomize(keras.Model({"left": left, "right": right}, outputs))
    gated = ka.insert_attention(model, gate, [path], preserve_outputs=True)
    x = {"left": image((2, 8, 8, 4)), "right": image((2, 8, 8, 4), seed=1)}
    expected, y = model(x), gated(x)
    assert set(y) == {"sum", "left"}
    for key in y:
        np.testing.assert_array_equal(numpy(y[key]), numpy(expected[key]))
    assert gated.get_layer("inner") is not inner
    found = [
        layer
        for layer in gated._flatten_layers()
        if isinstance(layer, ka.BlendIn)
    ]
    assert len(found) == 1  # Both calls share it.
    assert gated.count_params() == model.count_params() + 4 * 2 * 2 + 6 + 1
    assert len(gated.input) == 2


def test_shared_layers_share_their_attention():
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    relu = layers.ReLU(name="relu")
    left, right = keras.Input((8, 8, 4)), keras.Input((6, 6, 4))
    third = layers.Conv2D(6, 1, name="third")
    model = keras.Model(
        [left, right],
        [relu(conv(left)), relu(conv(right)), relu(third(left))],
    )
    gated = ka.insert_attention(model, gate, "conv")
    assert gates(gated) == ["relu_attention", "relu_attention_1"]
    x = [image((2, 8, 8, 4)), image((2, 6, 6, 4))]
    new = gated.get_layer
    hidden = [new("conv")(x[0]), new("conv")(x[1]), new("third")(x[0])]
    named = ["relu_attention", "relu_attention", "relu_attention_1"]
    for y, h, name in zip(gated(x), hidden, named, strict=True):
        expected = new(name)(new("relu")(h))
        np.testing.assert_allclose(numpy(y), numpy(expected), rtol=1e-6)


def test_sequential_stays_sequential():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(8, 3, name="conv"),
            layers.ReLU(name="relu"),
            keras.Sequential([layers.Conv2D(4, 3, name="conv")], name="in"),
        ],
        name="chain",
    )
    gated = ka.insert_attention(model, gate, "conv", preserve_outputs=True)
    assert type(gated) is keras.Sequential and gated.name == "chain"
    assert [layer.name for layer in gated.layers] == [
        "conv",
        "relu",
        "relu_attention",
        "in",
    ]
    assert type(gated.layers[-1]) is keras.Sequential
    x = image((2, 8, 8, 4))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))
    submodel = keras.Model(gated.inputs[0], gated.layers[1].output)
    assert tuple(submodel(x).shape) == (2, 6, 6, 8)


def test_arguments_of_calls_are_kept():
    class Power(layers.Layer):
        def call(self, x, exponent=1, add=None):
            return x**exponent + add

    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    outputs = Power(name="power")(x, exponent=3, add=inputs)
    model = keras.Model(inputs, outputs)
    gated = ka.insert_attention(model, gate, ["conv"], preserve_outputs=True)
    x = image((2, 8, 8, 4))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))
    hidden = numpy(model.get_layer("conv")(x))
    np.testing.assert_allclose(
        numpy(gated(x)), hidden**3 + x, rtol=1e-5, atol=1e-5
    )


def test_custom_layer_without_registration():
    class Scale(layers.Layer):
        def __init__(self, start, **kwargs):
            super().__init__(**kwargs)
            self.start = start

        def build(self, input_shape):
            self.factor = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(self.start)
            )

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {**super().get_config(), "start": self.start}

    inputs = keras.Input((8, 8, 4))
    x = Scale(3.0)(layers.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, x)
    gated = ka.insert_attention(model, gate, "conv", preserve_outputs=True)
    x = image((2, 8, 8, 4))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


def test_normalization_that_was_adapted():
    """What a layer derives from its weights is derived anew."""
    inputs = keras.Input((8, 8, 4))
    norm = layers.Normalization(name="norm")
    outputs = layers.Conv2D(4, 3, name="conv")(norm(inputs))
    model = keras.Model(inputs, outputs)
    norm.adapt(3 + 2 * image((16, 8, 8, 4)))
    gated = ka.insert_attention(model, gate, "conv", preserve_outputs=True)
    x = image((2, 8, 8, 4))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


@pytest.mark.parametrize("kind", ["text", "string", "integer", "tf_idf"])
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="graphs of strings are TensorFlow's",
)
def test_vocabulary_that_was_adapted(kind):
    words = np.array([["a", "b"], ["c", "b"], ["zip", "a"]])
    lookup = {
        "text": lambda: layers.TextVectorization(output_sequence_length=2),
        "string": layers.StringLookup,
        "integer": lambda: layers.IntegerLookup(output_mode="int"),
        "tf_idf": lambda: layers.StringLookup(output_mode="tf_idf"),
    }[kind]()
    size, dtype = 2, "string"
    if kind == "text":
        words, size = np.array([["a b"], ["c b"], ["zip a"]]), 1
    if kind == "integer":
        words, dtype = np.array([[7, 4], [9, 4], [1, 7]]), "int64"
    lookup.adapt(words[:2])
    inputs = keras.Input((size,), dtype=dtype)
    x = lookup(inputs)
    if kind == "tf_idf":
        x = layers.Reshape((1, lookup.vocabulary_size()))(x)
    else:
        x = layers.Embedding(lookup.vocabulary_size(), 4)(x)
    model = keras.Model(inputs, layers.Dense(4, name="dense")(x))
    gated = ka.insert_attention(model, gate, ["dense"], preserve_outputs=True)
    words = keras.ops.convert_to_tensor(words)
    np.testing.assert_array_equal(numpy(gated(words)), numpy(model(words)))


def test_weight_that_is_frozen_alone_stays_frozen():
    model = small_resnet()
    model.get_layer("stem").kernel.trainable = False
    model.get_layer("a_norm").gamma.trainable = False
    gated = ka.insert_attention(model, gate)
    frozen = {"stem/kernel", "a_norm/gamma"}
    trainable = {weight.path for weight in model.trainable_weights}
    assert not frozen & trainable
    kept = {weight.path for weight in gated.trainable_weights}
    assert trainable == {path for path in kept if "attention" not in path}


def test_frozen_layers_stay_frozen_and_attention_learns():
    model = small_resnet()
    model.trainable = False
    gated = ka.insert_attention(model, gate)
    assert len(gated.trainable_weights) == 2 * 4
    assert not gated.get_layer("a_norm").trainable


def test_attention_in_a_frozen_nested_backbone_learns():
    """At every depth, and after saving and loading."""
    backbone = small_resnet()
    backbone.trainable = False
    inputs = keras.Input((16, 16, 3))
    x = layers.Dense(2, name="top")(backbone(inputs))
    gated = ka.insert_attention(keras.Model(inputs, x), gate)
    found = ka.attention_layers(gated)
    assert [layer.name for layer in found] == [
        "a_norm_attention",
        "b_norm_attention",
    ]
    expected = 2 * 4 + 2  # Kernels and biases of two gates, and of the top.
    assert len(gated.trainable_weights) == expected
    loaded = keras.models.clone_model(gated)
    assert len(loaded.trainable_weights) == expected
    # The recipe of the documentation, on a model that is not frozen.
    for layer in gated.layers:
        layer.trainable = False
    for layer in ka.attention_layers(gated):
        layer.trainable = True
    assert len(gated.trainable_weights) == 2 * 4
    before = [w.copy() for w in gated.get_weights()]
    gated.compile("sgd", "mse")
    gated.fit(image((4, 16, 16, 3)), np.ones((4, 2)), verbose=0)
    changed = {
        weight.path.split("/")[-3]
        for weight, old in zip(gated.weights, before, strict=True)
        if np.abs(numpy(weight) - old).max() > 0
    }
    assert changed == {"a_norm_attention", "b_norm_attention"}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_data_format_is_that_of_the_model(data_format):
    model = ResNet(
        18, input_shape=(32, 32, 3), classes=2, data_format=data_format
    )
    gated = ka.insert_attention(
        model, "squeeze_excite", "residual", preserve_outputs=True
    )
    layer = gated.get_layer("stage4_block2_norm2_attention").layer
    assert layer.data_format == data_format
    assert layer.reduce.units == 512 // 16


def test_dtype_policy_is_that_of_the_place():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="half", dtype="mixed_bfloat16")(inputs)
    x = keras.ops.relu(x)
    x = layers.Conv2D(4, 3, name="whole", dtype="float32")(x)
    model = keras.Model(inputs, x)
    gated = ka.insert_attention(model, gate_class, "conv", True)
    policies = [
        layer.layer.dtype_policy.name
        for layer in gated.layers
        if isinstance(layer, ka.BlendIn)
    ]
    assert policies == ["mixed_bfloat16", "float32"]
    x = image((2, 8, 8, 4))
    np.testing.assert_array_equal(numpy(gated(x)), numpy(model(x)))


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_models(mode):
    """A rebuilt layer of float8 has its weights in another order."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    x = layers.EinsumDense("bhwc,cd->bhwd", (None, None, 5), bias_axes="d")(x)
    model = keras.Model(inputs, layers.Dense(1, name="head")(x))
    randomize(model)
    for layer in model.layers[2:]:
        layer.quantize(mode)
    x = image((2, 8, 8, 4))
    expected = numpy(model(x))
    gated = ka.insert_attention(model, gate, "conv", preserve_outputs=True)
    np.testing.assert_array_equal(numpy(gated(x)), expected)


gate_class = functools.partial(ka.SqueezeExcite, ratio=2)


def test_saved_and_loaded(tmp_path):
    gated = ka.insert_attention(small_resnet(), gate, preserve_outputs=True)
    randomize(gated)
    gated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = image()
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(gated(x)))
    twice = ka.insert_attention(loaded, gate, preserve_outputs=True)
    np.testing.assert_array_equal(numpy(twice(x)), numpy(gated(x)))
    assert names(twice, "residual")[0] == "a_norm_attention_attention"


@pytest.mark.tensorflow
def test_exported(tmp_path):
    import tensorflow as tf

    gated = ka.insert_attention(small_resnet(), gate, preserve_outputs=True)
    randomize(gated)
    gated.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    x = image()
    np.testing.assert_allclose(exported.serve(x), gated(x), rtol=1e-5)


def test_report():
    inner = small_resnet()
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, inner(inputs))
    gated = ka.insert_attention(model, gate, preserve_outputs=True)
    report = ka.insertion_report(model, gated)
    first, second = report.layers
    assert first.name == "small_resnet/a_norm_attention"
    assert first.layer == "SqueezeExcite"
    assert first.shape == (None, 16, 16, 4)
    assert first.parameters == 2 * 4 * 2 + 6 + 1
    assert second.parameters == 2 * 8 * 4 + 12 + 1
    assert report.parameters_before == model.count_params()
    assert report.parameters_after == model.count_params() + 23 + 77
    assert str(report).splitlines()[-1].startswith("2 layers inserted")
    with pytest.raises(TypeError, match="keras.Model"):
        ka.insertion_report(model, None)
