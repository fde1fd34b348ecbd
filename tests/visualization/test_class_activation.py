"""Grad-CAM: a case worked out by hand, CAM, and kinds of models."""

import threading

import keras
import numpy as np
import pytest
from keras import layers

from keras_attention.visualization import class_activation
from keras_attention.visualization import plot_class_activation
from support.seeds import seed_keras
from support.visualization import drawn
from support.visualization import image_model
from support.visualization import images

# Two channels of 2 x 3 positions, which the first layer passes on.
A0 = np.array([[1, 2, 0], [0, 3, 1]])
A1 = np.array([[0, 1, 4], [2, 0, 1]])
IMAGE = np.stack([A0, A1], -1)[None].astype("float32")
# The derivative of each class's score at each position of each channel. Their
# means, alpha, are 2 and -1 for class 0 and -1 and 1 for class 1.
DERIVATIVES = {
    (0, 0): [0, 4, 1, 3, 2, 2],
    (0, 1): [-1, -1, -3, 1, -2, 0],
    (1, 0): [-6, 0, 0, 0, 0, 0],
    (1, 1): [0, 1, 2, 3, 0, 0],
}
# ReLU(2 A0 - A1), and ReLU(A1 - A0).
MAPS = {0: [[2, 3, 0], [0, 6, 1]], 1: [[0, 0, 4], [2, 0, 0]]}


def kernel():
    found = np.zeros((6, 2, 2), "float32")
    for (unit, channel), values in DERIVATIVES.items():
        found[:, channel, unit] = values
    return found.reshape(12, 2)


def constant(value):
    return lambda shape, dtype: keras.ops.reshape(
        keras.ops.cast(value, dtype), shape
    )


def by_hand(*ending, activation=None, **arguments):
    weights = constant(kernel())
    return keras.Sequential(
        [
            keras.Input((2, 3, 2)),
            layers.Conv2D(
                2,
                1,
                kernel_initializer=constant(np.eye(2)),
                name="conv",
                **arguments,
            ),
            layers.Flatten(),
            layers.Dense(
                2, activation, kernel_initializer=weights, **arguments
            ),
            *ending,
        ]
    )


def nested():
    inputs = keras.Input((2, 3, 2))
    inner = by_hand(activation="softmax")
    return keras.Model(inputs, layers.Identity()(inner(inputs)))


def of_operations():
    inner = by_hand()
    return keras.Model(inner.inputs[0], keras.ops.softmax(inner.outputs[0]))


class Subclassed(keras.Model):
    """Its softmax is a layer, or a function that no one can find."""

    def __init__(self, hidden=False, **arguments):
        super().__init__(**arguments)
        self.inner = by_hand()
        self.softmax = keras.ops.softmax if hidden else layers.Softmax()

    def call(self, x):
        return self.softmax(self.inner(x))


def subclassed(**arguments):
    model = Subclassed(**arguments)
    model(IMAGE)
    return model


def reshaped():
    """As MobileNet: a convolution gives the scores."""
    inner = by_hand()
    x = layers.Reshape((1, 1, 12))(inner.layers[1].output)
    weights = constant(kernel())
    x = layers.Conv2D(2, 1, activation="softmax", kernel_initializer=weights)(x)
    return keras.Model(inner.inputs[0], layers.Reshape((2,))(x))


ENDINGS = {
    "logits": by_hand,
    "softmax": lambda: by_hand(activation="softmax"),
    "log_softmax": lambda: by_hand(activation="log_softmax"),
    "sigmoid": lambda: by_hand(activation="sigmoid"),
    "softmax layer": lambda: by_hand(layers.Softmax()),
    "activation": lambda: by_hand(layers.Activation("softmax")),
    "dropout": lambda: by_hand(layers.Softmax(), layers.Dropout(0.5)),
    "function": lambda: by_hand(
        activation=lambda x: (
            keras.ops.exp(x)
            / keras.ops.sum(keras.ops.exp(x), -1, keepdims=True)
        )
    ),
    "nested": nested,
    "operation": of_operations,
    "subclassed": subclassed,
    "reshaped": reshaped,
    "half": lambda: by_hand(
        layers.Activation("softmax", dtype="float32"), dtype="mixed_float16"
    ),
    "double": lambda: by_hand(
        layers.Activation("softmax", dtype="float64"), dtype="float64"
    ),
}
if keras.backend.backend() == "jax":  # It has no float64 by default.
    del ENDINGS["double"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_case_worked_out_by_hand(ending):
    model = ENDINGS[ending]()
    before = np.asarray(keras.ops.convert_to_numpy(model(IMAGE)))
    for number, expected in MAPS.items():
        found = class_activation(model, IMAGE, number)
        assert found.layer.endswith("conv")
        assert found.classes == [number]
        np.testing.assert_allclose(found.maps[0], expected, rtol=1e-3)
    scores = (IMAGE.reshape(1, 12) @ kernel()).astype("float64")
    odds = np.exp(scores)
    expected = odds / odds.sum()
    if ending == "sigmoid":
        expected = odds / (1 + odds)
    found = class_activation(model, IMAGE)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-3)
    assert found.classes == scores.argmax(1)
    # The model is what it was.
    np.testing.assert_array_equal(
        before, keras.ops.convert_to_numpy(model(IMAGE))
    )
    for layer in model._flatten_layers():
        assert "call" not in vars(layer)


def pooled(units=5, activation="softmax", size=(23, 19), **arguments):
    """A network whose last map is pooled: Grad-CAM is CAM there."""
    seed_keras(0)
    inputs = keras.Input((*size, 3))
    x = layers.Conv2D(7, 3, activation="relu", name="early")(inputs)
    x = layers.MaxPooling2D(name="down")(x)
    x = layers.Conv2D(11, 3, name="late")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(units, activation, name="head", dtype="float32")(x)
    return keras.Model(inputs, x, name="pooled", **arguments)


def draw(count=3, size=(23, 19)):
    generator = np.random.default_rng(1)
    return generator.normal(size=(count, *size, 3)).astype("float32")


@pytest.mark.parametrize("count", [1, 3])
def test_with_global_pooling_it_is_cam(count):
    model, x = pooled(), draw(count)
    found = class_activation(model, x)
    assert found.layer == "relu"
    features = keras.Model(model.input, model.get_layer("relu").output)(x)
    features = keras.ops.convert_to_numpy(features)
    kernel = model.get_layer("head").get_weights()[0]
    predicted = keras.ops.convert_to_numpy(model(x)).argmax(1)
    np.testing.assert_array_equal(found.classes, predicted)
    positions = features[0, ..., 0].size
    signs = set()
    for classes in (predicted, *[np.full(count, n) for n in range(5)]):
        cam = np.einsum("bhwc,cb->bhw", features, kernel[:, classes])
        found = class_activation(model, x, classes)
        np.testing.assert_allclose(
            found.maps, np.maximum(cam, 0) / positions, rtol=1e-4, atol=1e-7
        )
        signs |= set(np.sign(cam).ravel())
    assert {-1, 1} <= signs


def test_a_saturated_softmax_does_not_hide_the_class():
    model = pooled()
    kernel, bias = model.get_layer("head").get_weights()
    expected = class_activation(model, draw(), 2).maps
    bias[2] = 200
    model.get_layer("head").set_weights([kernel, bias])
    found = class_activation(model, draw(), 2)
    assert found.probabilities[:, 2].min() == 1
    np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-8)


def test_one_output_has_two_classes():
    model, x = pooled(1, "sigmoid"), draw()
    kernel, bias = model.get_layer("head").get_weights()
    yes, no = (class_activation(model, x, number) for number in (1, 0))
    p = keras.ops.convert_to_numpy(model(x))[:, 0]
    np.testing.assert_allclose(yes.probabilities[:, 1], p, rtol=1e-5)
    np.testing.assert_allclose(yes.probabilities.sum(1), 1)
    model.get_layer("head").set_weights([-kernel, -bias])
    turned = class_activation(model, x, 1)
    np.testing.assert_allclose(turned.maps, no.maps, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(
        class_activation(model, x).classes,
        turned.probabilities[:, 1] > 0.5,
    )
    logits = pooled(1, None)
    found = class_activation(logits, x)
    z = keras.ops.convert_to_numpy(logits(x))[:, 0]
    np.testing.assert_allclose(
        found.probabilities[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-5
    )


def test_half_precision_of_a_large_map():
    """The gradient of a mean of 4087 positions would be rounded to 0."""
    size = (63, 69)
    seed_keras(0)

    def make(dtype):
        return keras.Sequential(
            [
                keras.Input((*size, 3)),
                layers.Conv2D(5, 3, name="conv", dtype=dtype),
                layers.GlobalAveragePooling2D(dtype=dtype),
                layers.Dense(3, dtype=dtype),
                layers.Activation("softmax", dtype="float32"),
            ]
        )

    half, full = make("mixed_float16"), make("float32")
    weights = full.get_weights()
    weights[-2] *= 1e-3
    full.set_weights(weights)
    half.set_weights(weights)
    x = draw(2, size)
    expected, found = (class_activation(m, x, 1).maps for m in (full, half))
    assert expected.max() > 0
    np.testing.assert_allclose(
        found, expected, rtol=1e-2, atol=1e-2 * expected.max()
    )


def test_channels_first():
    model = keras.Sequential(
        [
            keras.Input((2, 2, 3)),
            layers.AveragePooling2D(
                1, data_format="channels_first", name="map"
            ),
            layers.Permute((2, 3, 1)),
            layers.Flatten(),
            layers.Dense(2, "softmax", kernel_initializer=constant(kernel())),
        ]
    )
    image = np.moveaxis(IMAGE, -1, 1)
    for number, expected in MAPS.items():
        found = class_activation(model, image, number, "map")
        np.testing.assert_allclose(found.maps[0], expected, rtol=1e-5)


def several_outputs():
    seed_keras(0)
    inputs = keras.Input((23, 19, 3))
    x = layers.Conv2D(7, 3, activation="relu", name="early")(inputs)
    first = layers.GlobalAveragePooling2D()(x)
    x = layers.MaxPooling2D(name="down")(x)
    x = layers.Conv2D(11, 3, activation="relu", name="late")(x)
    second = layers.GlobalAveragePooling2D()(x)
    outputs = {
        "coarse": layers.Dense(2, "softmax", name="coarse")(first),
        "fine": layers.Dense(5, "softmax", name="fine")(second),
        "map": x,
    }
    return keras.Model(inputs, outputs, name="several")


def test_several_outputs():
    model, x = several_outputs(), draw()
    for output, layer, units in (("coarse", "early", 2), (1, "late", 5)):
        found = class_activation(model, x, output=output)
        assert found.layer == layer
        assert found.probabilities.shape == (3, units)
        weights = model.get_layer({2: "coarse", 5: "fine"}[units]).kernel
        features = keras.Model(model.input, model.get_layer(layer).output)(x)
        features = keras.ops.convert_to_numpy(features)
        kernel = keras.ops.convert_to_numpy(weights)[:, found.classes]
        cam = np.einsum("bhwc,cb->bhw", features, kernel)
        expected = np.maximum(cam, 0) / features[0, ..., 0].size
        np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match=r"several outputs: \['coarse', 'fine"):
        class_activation(model, x)
    with pytest.raises(ValueError, match="the name or the number"):
        class_activation(model, x, output="fin")
    with pytest.raises(ValueError, match=r"output 'map' .* of shape \(3, 8, 6"):
        class_activation(model, x, output="map")
    with pytest.raises(ValueError, match="no effect on them"):
        class_activation(model, x, layer="late", output="coarse")


def test_another_thread_sees_the_whole_model():
    model, x = pooled(), draw()
    expected = np.asarray(keras.ops.convert_to_numpy(model(x)))
    activation = model.get_layer("head").activation
    found = []

    class Probe(layers.Layer):
        def call(self, x):
            def work():
                with_softmax = pooled_head(keras.ops.ones((3, 11)))
                found.append(keras.ops.convert_to_numpy(with_softmax))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return x

    pooled_head = model.get_layer("head")
    inputs = keras.Input((23, 19, 3))
    probed = keras.Model(inputs, model(Probe()(inputs)))
    found.clear()
    class_activation(probed, x)
    assert len(found) >= 3
    for each in found:
        np.testing.assert_allclose(each.sum(1), 1, rtol=1e-5)
    assert model.get_layer("head").activation is activation
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(x)), expected
    )


def test_bad_arguments():
    model, x = pooled(), draw()
    for classes in (1.5, [0, 1], True, "cat", [[0], [1], [2]]):
        with pytest.raises(ValueError, match="must be an integer, or one for"):
            class_activation(model, x, classes)
    for classes in (-1, 5, [0, 1, 7]):
        with pytest.raises(ValueError, match="from 0 to 4"):
            class_activation(model, x, classes)
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        class_activation(model, x, layer="relo")
    with pytest.raises(ValueError, match="whose output is weighted"):
        class_activation(model, x, layer="relu:gate")
    with pytest.raises(TypeError, match="path of a layer must be a string"):
        class_activation(model, x, layer=["relu"])
    with pytest.raises(ValueError, match="must be real numbers"):
        class_activation(model, x.astype("complex64"))
    for layer in ("pool", "head"):
        with pytest.raises(ValueError, match="more than one position"):
            class_activation(model, x, layer=layer)
    with pytest.raises(ValueError, match="must be a batch"):
        class_activation(model, x[0])
    with pytest.raises(ValueError, match="must be finite"):
        class_activation(model, np.full_like(x, np.nan), 1)
    flat = keras.Sequential(
        [keras.Input((23, 19, 3)), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="no stage of images"):
        class_activation(flat, x)
    with pytest.raises(ValueError, match="is in none of its layers"):
        class_activation(subclassed(hidden=True), IMAGE)
    with pytest.raises(ValueError, match="call it once first"):
        class_activation(Subclassed(), IMAGE)


def test_plot():
    model, x = pooled(), draw()
    names = ["ant", "bee", "$cat$", "dog", "eel"]
    found = class_activation(model, x)
    figure = plot_class_activation(
        {"one": model, "two": model},
        x,
        labels=["ant"] * 3,
        class_names=names,
        caption="See $1$",
    )
    assert [ax.get_title() for ax in figure.axes[:3]] == [
        "image",
        "one\nrelu",
        "two\nrelu",
    ]
    for row, (map_, number) in enumerate(
        zip(found.maps, found.classes, strict=True)
    ):
        ax = figure.axes[3 * row + 1]
        np.testing.assert_allclose(drawn(ax, 1), map_ / map_.max(), rtol=1e-5)
        name = names[number].replace("$", r"\$")
        share = found.probabilities[row, number]
        assert ax.get_xlabel() == f"predicts {name}, {share:.0%}"
        is_red = ax.xaxis.label.get_color() == "tab:red"
        assert is_red == (names[number] != "ant")
    assert figure.axes[-1].get_ylabel() == "class activation (Grad-CAM)"
    files = ["a.png", "b.png", "c.png"]  # No classes: nothing is wrong.
    figure = plot_class_activation(model, x, labels=files, class_names=names)
    assert figure.axes[1].xaxis.label.get_color() == "black"
    figure = plot_class_activation(model, x, classes=[0, 1, 2], layer="early")
    labels = [figure.axes[2 * row + 1].get_xlabel() for row in range(3)]
    assert [label.split(",")[0] for label in labels] == [
        "class 0",
        "class 1",
        "class 2",
    ]
    with pytest.raises(ValueError, match="2 class names .* with 5 classes"):
        plot_class_activation(model, x, class_names=["ant", "bee"])


def test_a_map_without_a_positive_value_is_blank():
    model, x = pooled(), draw(1)
    kernel, bias = model.get_layer("head").get_weights()
    kernel[:, 0] = -1
    model.get_layer("head").set_weights([kernel, bias])
    figure = plot_class_activation(model, x, classes=0)
    np.testing.assert_array_equal(drawn(figure.axes[1], 1), 0)


def test_a_model_with_gates():
    found = class_activation(image_model(), images())
    assert found.layer == "last" and found.maps.shape == (3, 6, 5)
