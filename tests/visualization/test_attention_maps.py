import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.visualization import plot_attention_maps
from support.visualization import count_calls
from support.visualization import drawn
from support.visualization import image_model
from support.visualization import images


@pytest.fixture(scope="module")
def model():
    return image_model()


def titles(figure, count):
    return [ax.get_title() for ax in figure.axes[:count]]


def test_drawn_maps_are_the_layers_sum_of_squares(model):
    x = images(2)
    figure = plot_attention_maps(model, x, ["conv", "last"], ["a", "b $1$"])
    assert len(figure.axes) == 7  # The last one is the color bar.
    _, values = read_outputs(model, x, ["conv", "last"])
    for column, name in enumerate(["conv", "last"], start=1):
        expected = (np.asarray(values[name]) ** 2).sum(-1)
        for row in range(2):
            found = drawn(figure.axes[3 * row + column], 1)
            np.testing.assert_allclose(
                found, expected[row] / expected[row].max(), rtol=1e-5
            )
    assert figure.axes[-1].get_ylabel() == "squared activations"
    assert figure.axes[0].get_ylabel() == "a"
    assert figure.axes[3].get_ylabel() == r"b \$1\$"
    assert titles(figure, 3) == ["image", "conv", "last"]


def test_maps_lie_over_the_whole_image(model):
    x = images(1)
    figure = plot_attention_maps(model, x, ["last"])
    below, above = figure.axes[1].images
    assert below.get_extent() == above.get_extent()
    scaled = (x[0] - x[0].min()) / np.ptp(x[0])
    np.testing.assert_allclose(below.get_array(), scaled.mean(-1))
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), scaled)
    assert above.get_array().shape == (6, 5)


def test_gates_over_positions(model):
    x = images(2)
    figure = plot_attention_maps(model, x, ["cbam:gate"])
    _, values = read_outputs(model, x, ["cbam:gate"])
    expected = np.asarray(values["cbam:gate"]).mean(-1)
    for row in range(2):
        ax = figure.axes[2 * row + 1]
        np.testing.assert_allclose(drawn(ax, 1), expected[row], rtol=1e-5)
        limits = ax.images[1].get_clim()
        np.testing.assert_allclose(limits, (expected.min(), expected.max()))
    low, high = expected.min(), expected.max()
    assert titles(figure, 2)[1] == f"cbam:gate\n{low:.3g} to {high:.3g}"


def test_without_names_the_ends_of_the_stages(model):
    calls = count_calls(model)
    figure = plot_attention_maps(model, images(1))
    assert len(calls) == 1
    names = [title.split("\n")[0] for title in titles(figure, 4)]
    assert names == ["image", "cbam:gate", "relu", "last"]


def test_a_subclassed_model_without_names():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, name="conv")
            self.pool = keras.layers.MaxPooling2D(name="pool")

        def call(self, x):
            return self.pool(self.conv(x))

    with pytest.raises(ValueError, match="call it once first"):
        plot_attention_maps(Net(), images(1))
    with pytest.raises(ValueError, match="call it once first"):
        plot_attention_maps(Net(), images(1), ["conv"])
    model = Net()
    model(images(1))
    figure = plot_attention_maps(model, images(1))
    assert titles(figure, 2) == ["image", "conv"]


def test_models_side_by_side_each_run_once(model):
    other = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Conv2D(2, 3, name="other")]
    )
    calls = count_calls(model), count_calls(other)
    figure = plot_attention_maps(
        {"big": model, "small": other},
        images(),
        {"big": ["conv"], "small": ["other"]},
    )
    assert titles(figure, 3) == ["image", "big\nconv", "small\nother"]
    assert [len(each) for each in calls] == [1, 1]


def test_channels_first():
    layer = ka.SpatialAttention(data_format="channels_first", name="where")
    model = keras.Sequential([keras.Input((3, 12, 10)), layer])
    x = np.moveaxis(images(1), -1, 1)
    figure = plot_attention_maps(model, x, ["where", "where:gate"])
    expected = (np.asarray(model(x)) ** 2).sum(1)[0]
    np.testing.assert_allclose(
        drawn(figure.axes[1], 1), expected / expected.max(), rtol=1e-5
    )
    assert figure.axes[0].images[0].get_array().shape == (12, 10, 3)
    assert drawn(figure.axes[2], 1).shape == (12, 10)


def classifier(softmax):
    outputs = keras.layers.Dense(3, activation="softmax" if softmax else None)
    layers = [keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((12, 10, 3)), *layers, outputs])


@pytest.mark.parametrize("softmax", [True, False])
def test_predictions_and_their_confidence(softmax):
    models = {"one": classifier(softmax), "two": classifier(softmax)}
    x = images(3)
    names = ["cat", "a $dog$", "eel"]
    labels = ["cat", "eel", "eel"]
    figure = plot_attention_maps(models, x, ["conv"], labels, names, "See $1$")
    for column, model in enumerate(models.values(), start=1):
        values = np.asarray(model(x), "float64")
        if not softmax:
            values = np.exp(values) / np.exp(values).sum(-1, keepdims=True)
        for row in range(3):
            best = values[row].argmax()
            ax = figure.axes[3 * row + column]
            name = names[best].replace("$", r"\$")
            assert (
                ax.get_xlabel() == f"predicts {name}, {values[row][best]:.0%}"
            )
            is_red = ax.xaxis.label.get_color() == "tab:red"
            assert is_red == (names[best] != labels[row])
    assert figure.get_supxlabel() == r"See \$1\$"


def test_class_names_that_are_not_those_of_the_outputs(model):
    other = classifier(softmax=True)
    with pytest.raises(ValueError, match=r"4 class names .* \(3, 3\)"):
        plot_attention_maps(other, images(3), ["conv"], None, list("abcd"))
    image = keras.Input((12, 10, 3))
    maps = keras.layers.Conv2D(4, 3, name="conv")(image)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(maps))
    two = keras.Model(image, [outputs, outputs])
    with pytest.raises(ValueError, match="other outputs"):
        plot_attention_maps(two, images(3), ["conv"], None, list("abc"))


def test_a_black_image_and_a_zero_map(model):
    figure = plot_attention_maps(model, np.zeros((1, 12, 10, 3)), ["conv"])
    for ax in figure.axes:
        assert all(np.isfinite(i.get_array()).all() for i in ax.images)


def test_bad_arguments(model):
    with pytest.raises(ValueError, match="whose output is an image"):
        plot_attention_maps(model, images(), ["pool"])
    with pytest.raises(ValueError, match="`plot_channel_gates` plots it"):
        plot_attention_maps(model, images(), ["squeeze:gate"])
    with pytest.raises(ValueError, match="Did you mean 'conv'"):
        plot_attention_maps(model, images(), ["convv"])
    with pytest.raises(TypeError, match=r"One layer is \['conv'\]"):
        plot_attention_maps(model, images(), "conv")
    with pytest.raises(ValueError, match="1 labels for 3 images"):
        plot_attention_maps(model, images(), ["conv"], labels=["a"])
    with pytest.raises(ValueError, match="must be a batch"):
        plot_attention_maps(model, images()[0], ["conv"])
    dense = keras.Sequential([keras.Input((12, 10, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="Name layers"):
        plot_attention_maps(dense, images())
