import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_attention import AttentionTransferModel
from keras_attention.visualization import plot_transfer_history

HISTORY = {
    "accuracy": [0.1, 0.2],
    "attention/stage1": [0.02, 0.0],
    "attention/stage2<block7": [0.03, 0.01],
    "attention_loss": [0.05, 0.01],
    "distillation_loss": [1.0, 0.5],
    "label_loss": [2.0, 1.5],
    "loss": [3.0, 2.0],
    "val_loss": [3.5, 2.5],
}


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_lines_are_the_parts_over_the_epochs():
    figure = plot_transfer_history(HISTORY, title="digits")
    (ax,) = figure.axes
    found = lines(ax)
    assert list(found) == [
        "total",
        "total (validation)",
        "labels",
        "distillation",
        "attention, all pairs",
        "stage1",
        "stage2<block7",
    ]
    for label, name in (("total", "loss"), ("stage2<block7", None)):
        key = name or f"attention/{label}"
        assert list(found[label].get_ydata()) == HISTORY[key]
        assert list(found[label].get_xdata()) == [1, 2]
    # Zero has no logarithm.
    assert np.isnan(found["stage1"].get_ydata()[1])
    assert ax.get_yscale() == "log" and ax.get_title() == "digits"
    total, validation = found["total"], found["total (validation)"]
    assert total.get_color() == validation.get_color()
    assert validation.get_linestyle() == "--"
    figure.savefig("/dev/null", format="png")


def test_what_fit_returns():
    def network(name):
        inputs = keras.Input((6, 6, 1))
        x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(2)(x), name=name)

    model = AttentionTransferModel(
        network("student"), network("teacher"), pairs=["conv"]
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 1))
    history = model.fit(x, np.array([0, 1, 0, 1]), epochs=2, verbose=0)
    (ax,) = plot_transfer_history(history).axes
    assert list(lines(ax)) == [
        "total",
        "labels",
        "attention, all pairs",
        "conv",
    ]
    np.testing.assert_allclose(
        lines(ax)["conv"].get_ydata(), history.history["attention/conv"]
    )


def test_given_axes_are_drawn_on():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_transfer_history(HISTORY, ax=right) is figure
    assert not left.lines and len(right.lines) == 7


@pytest.mark.parametrize("history", [{}, {"accuracy": [1.0]}, {"loss": []}])
def test_without_losses(history):
    with pytest.raises(ValueError, match="must have losses"):
        plot_transfer_history(history)
