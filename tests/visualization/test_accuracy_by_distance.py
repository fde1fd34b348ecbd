import numpy as np
import pytest

from keras_attention.visualization import plot_accuracy_by_distance

ACCURACIES = {
    "lstm": {0: [1.0, 0.9], 8: [0.7, 0.5], 16: [0.4]},
    "attention": {0: [1.0], 8: [0.8], 16: [0.7]},
}


def test_lines_bars_and_the_trained_range():
    figure = plot_accuracy_by_distance(
        ACCURACIES,
        trained=(0, 8),
        baselines={"majority": 0.5, "nearest_noun": {0: 1.0, 16: 0.1}},
        title="agreement",
    )
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(labels) == sorted(
        ["trained range", "lstm", "attention", "majority", "nearest noun"]
    )
    first, *_ = axes.containers
    means = first[0].get_ydata().astype("float64")
    np.testing.assert_allclose(means, [0.95, 0.6, 0.4])
    bars = first[2][0].get_segments()
    np.testing.assert_allclose(bars[0][:, 1], [0.9, 1.0])
    np.testing.assert_allclose(bars[2][:, 1], [0.4, 0.4])
    majority, nearest = axes.lines[-2:]
    assert list(majority.get_ydata()) == [0.5, 0.5, 0.5]
    assert list(nearest.get_xdata()) == [0, 16]
    assert axes.get_title() == "agreement"
    # Markers tell lines apart without color.
    assert len({c[0].get_marker() for c in axes.containers}) == 2


def test_given_axes_are_drawn_on():
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_accuracy_by_distance(ACCURACIES, ax=right) is figure
    assert not left.lines and right.lines


@pytest.mark.parametrize(
    "accuracies", [{}, {"a": {}}, {"a": {0: []}}, {"a": {0: [1.5]}}]
)
def test_bad_accuracies(accuracies):
    with pytest.raises(ValueError, match="Received"):
        plot_accuracy_by_distance(accuracies)
