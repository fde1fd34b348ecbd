import keras
import numpy as np
import pytest

from keras_attention.visualization import plot_attention_maps


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def images(count=2):
    return np.random.default_rng(0).normal(size=(count, 6, 6, 3))


def test_drawn_maps_are_the_layers_sum_of_squares(model):
    x = images()
    figure = plot_attention_maps(model, x, ["conv"], labels=["a", "b"])
    axes = figure.axes
    assert len(axes) == 4
    activation = keras.ops.convert_to_numpy(model.get_layer("conv")(x))
    expected = (activation**2).sum(-1)
    for row in range(2):
        drawn = axes[2 * row + 1].images[0].get_array()
        np.testing.assert_allclose(
            drawn, expected[row] / expected[row].max(), rtol=1e-5
        )
    assert [axes[0].get_ylabel(), axes[2].get_ylabel()] == ["a", "b"]
    assert [axes[0].get_title(), axes[1].get_title()] == ["image", "conv"]


def test_models_side_by_side(model):
    figure = plot_attention_maps(
        {"big": model, "small": model}, images(), ["conv"]
    )
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["image", "big\nconv", "small\nconv"]


def test_a_black_image_and_a_zero_map(model):
    figure = plot_attention_maps(model, np.zeros((1, 6, 6, 3)), ["conv"])
    for axes in figure.axes:
        assert np.isfinite(axes.images[0].get_array()).all()


def test_bad_arguments(model):
    with pytest.raises(ValueError, match="whose output is an image"):
        plot_attention_maps(model, images(), ["pool"])
    with pytest.raises(ValueError, match="Did you mean 'conv'"):
        plot_attention_maps(model, images(), ["convv"])
    with pytest.raises(ValueError, match="1 labels for 2 images"):
        plot_attention_maps(model, images(), ["conv"], labels=["a"])
