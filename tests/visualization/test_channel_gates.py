import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.visualization import plot_channel_gates
from support.visualization import count_calls
from support.visualization import drawn
from support.visualization import image_model
from support.visualization import images


@pytest.fixture(scope="module")
def model():
    return image_model()


def test_lines_are_the_means_of_the_classes(model):
    x, labels = images(5), np.array(["dog", "cat", "dog", "cat", "dog"])
    calls = count_calls(model)
    figure = plot_channel_gates(model, x, labels)
    assert len(calls) == 1
    taps = ["squeeze:gate", "cbam/channel_attention:gate"]
    _, values = read_outputs(model, x, taps)
    assert [ax.get_title() for ax in figure.axes] == [
        "squeeze",
        "cbam/channel_attention",
    ]
    for ax, tap in zip(figure.axes, taps, strict=True):
        gate = np.asarray(values[tap])[:, 0, 0]
        cat, dog, every = (line.get_ydata() for line in ax.lines)
        np.testing.assert_allclose(cat, gate[[1, 3]].mean(0), rtol=1e-5)
        np.testing.assert_allclose(dog, gate[[0, 2, 4]].mean(0), rtol=1e-5)
        np.testing.assert_allclose(every, gate.mean(0), rtol=1e-5)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["cat", "dog", "all"]


def test_many_channels_are_a_heat_map():
    wide = keras.Sequential(
        [
            keras.Input((5, 4, 3)),
            keras.layers.Conv2D(49, 1),
            ka.SqueezeExcite(7, name="wide"),
            keras.layers.Conv2D(48, 1),
            ka.SqueezeExcite(8, name="narrow"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(37, 5, 4, 3))
    labels = np.arange(37) % 18
    figure = plot_channel_gates(wide, x, labels)
    _, values = read_outputs(wide, x, ["wide:gate"])
    gate = keras.ops.convert_to_numpy(values["wide:gate"])[:, 0, 0]
    expected = [gate[labels == n].mean(0) for n in range(18)]
    shown, lines, bar = figure.axes
    np.testing.assert_allclose(
        drawn(shown), [*expected, gate.mean(0)], rtol=1e-5
    )
    assert not shown.lines and len(lines.lines) == 19
    texts = [text.get_text() for text in shown.get_yticklabels()]
    assert texts[-1] == "all" and texts[0] == "0" and len(texts) == 10
    assert shown.images[0].get_clim() == (0, 1)
    assert bar.get_ylabel() == "gate"
    assert len(figure.legends[0].get_texts()) == 19


def test_given_axes_are_drawn_on(model):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    found = plot_channel_gates(
        model, images(2), [0, 1], layers=["squeeze"], ax=right
    )
    assert found is figure and not left.lines and len(right.lines) == 3
    with pytest.raises(ValueError, match="one plot, and this is 2"):
        plot_channel_gates(model, images(2), [0, 1], ax=right)


def test_bad_arguments(model):
    with pytest.raises(ValueError, match="one number for each channel"):
        plot_channel_gates(model, images(1), [0], ["cbam:gate"])
    with pytest.raises(ValueError, match="2 labels for 1 images"):
        plot_channel_gates(model, images(1), [0, 1])
    with pytest.raises(TypeError, match=r"One layer is \['cbam:gate'\]"):
        plot_channel_gates(model, images(1), [0], "cbam:gate")
    with pytest.raises(ValueError, match="has no `compute_gate`"):
        plot_channel_gates(model, images(1), [0], ["conv"])
    none = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Conv2D(2, 3)]
    )
    with pytest.raises(ValueError, match="has no gate of channels"):
        plot_channel_gates(none, images(1), [0])
