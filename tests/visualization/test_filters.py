import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.visualization import plot_filters
from support.visualization import TOKENS
from support.visualization import WORDS
from support.visualization import count_calls
from support.visualization import drawn
from support.visualization import image_model
from support.visualization import images
from support.visualization import language_model


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Embedding(11, 6, mask_zero=True, name="embedding"),
        ka.LightweightConv1D(3, 5, causal=True, name="light"),
        ka.DynamicConv1D(2, 3, name="dynamic"),
    ]
    model = keras.Sequential(layers)
    model(TOKENS)
    return model


def test_lightweight_filters_need_no_run(model):
    calls = count_calls(model)
    figure = plot_filters(model)
    assert not calls
    kernel = np.asarray(model.get_layer("light").kernel)
    np.testing.assert_allclose(
        drawn(figure.axes[0]), softmax(kernel), rtol=1e-5
    )
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks == ["-4", "-3", "-2", "-1", "0"]


def test_one_layer_is_a_list_too(model):
    with pytest.raises(TypeError, match=r"One layer is \['light'\]"):
        plot_filters(model, layers="light")


def test_dynamic_filters_over_time(model):
    calls = count_calls(model)
    figure = plot_filters(model, TOKENS[0], WORDS)
    assert len(calls) == 1
    _, values = read_outputs(model, TOKENS, ["light"])
    kernel = np.asarray(model.get_layer("dynamic").filters.kernel)
    # Filters of masked positions are predicted from zeros.
    mask = np.array(TOKENS[0]) != 0
    logits = np.where(mask[:, None], values["light"][0], 0) @ kernel
    expected = softmax(logits.reshape(7, 2, 3))
    plots = [ax for ax in figure.axes if ax.get_title().startswith("head")]
    for head, ax in enumerate(plots):
        np.testing.assert_allclose(
            drawn(ax), expected[:, head], rtol=1e-4, atol=1e-6
        )
    ticks = [t.get_text() for t in plots[0].get_xticklabels()]
    assert ticks == ["-1", "0", "+1"]
    rows = [t.get_text() for t in plots[0].get_yticklabels()]
    assert rows == [word.replace("$", r"\$") for word in WORDS]
    assert figure.axes[0].get_ylabel() == "light\nhead"


def test_the_tap_of_filters_sees_what_is_used():
    layer = ka.DynamicConv1D(1, 3, renormalize_padding=True, name="mixer")
    model = keras.Sequential([keras.Input((None, 2)), layer])
    x = np.random.default_rng(0).normal(size=(1, 4, 2)).astype("float32")
    output, values = read_outputs(model, x, ["mixer:filters"])
    filters = np.asarray(values["mixer:filters"])[0, :, 0]
    assert filters[0, 0] == 0 and filters[-1, -1] == 0
    padded = np.pad(x[0], ((1, 1), (0, 0)))
    expected = [filters[t] @ padded[t : t + 3] for t in range(4)]
    np.testing.assert_allclose(np.asarray(output)[0], expected, atol=1e-5)


def test_given_axes_are_drawn_on(model):
    figure = Figure()
    ax = figure.subplots()
    assert plot_filters(model, layers=["light:filters"], ax=ax) is figure
    assert ax.images
    with pytest.raises(ValueError, match="there are 2"):
        plot_filters(model, TOKENS, layers=["dynamic"], ax=ax)


def test_bad_arguments(model):
    with pytest.raises(ValueError, match="Give `tokens`"):
        plot_filters(model, layers=["dynamic"])
    with pytest.raises(ValueError, match="Give `tokens`"):
        plot_filters(model, layers=["embedding"])
    with pytest.raises(ValueError, match="has no `compute_filters`"):
        plot_filters(model, TOKENS, layers=["embedding"])
    with pytest.raises(ValueError, match="one text for each token"):
        plot_filters(model, TOKENS, ["a"])
    with pytest.raises(ValueError, match="one sequence"):
        plot_filters(model, np.repeat(TOKENS, 2, 0))
    with pytest.raises(ValueError, match="no LightweightConv1D"):
        plot_filters(image_model(), images(1))
    only = keras.Sequential([ka.DynamicConv1D(1, 3)])
    with pytest.raises(ValueError, match="without `tokens`"):
        plot_filters(only)
    unbuilt = language_model("dynamic")
    with pytest.raises(ValueError, match="call it once first"):
        plot_filters(unbuilt, TOKENS)


def test_labels_of_an_array():
    model = language_model("lightweight")
    model(TOKENS)
    figure = plot_filters(model, TOKENS, np.array(WORDS))
    assert len(figure.axes) > 1
    model = language_model("dynamic")
    model(TOKENS)
    figure = plot_filters(model, TOKENS, np.arange(7))
    ticks = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert ticks == list("0123456")
