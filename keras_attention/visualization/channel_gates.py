"""Channel gates by class and depth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import split_name
from keras_attention.inspection.layer_paths import check_names
from keras_attention.visualization import readings
from keras_attention.visualization.attention_maps import check_images
from keras_attention.visualization.figures import axes_grid
from keras_attention.visualization.figures import literal
from keras_attention.visualization.figures import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lines of more channels cover each other.
MOST_LINE_CHANNELS = 48
MOST_ROW_LABELS = 16


def plot_channel_gates(
    model: keras.Model,
    images: Any,
    labels: Sequence[Any],
    layers: Sequence[str] | None = None,
    ax: Any = None,
) -> "Figure":
    """Plot the gates of channels by class: one plot per layer, in their order.

    A line is the mean gate of each channel over the images of a class, the
    black one over all images. Of more than 48 channels, which lines do not
    show, it is a row of a heat map. Where lines or rows coincide, the gate does
    not depend on the class. The model runs once, with all images.

    Args:
        model: Model with gates of channels, such as `SqueezeExcite`,
            `EfficientChannelAttention` or `ChannelGSoP`.
        images: Batch of images, as the model takes it.
        labels: The class of each image: a name or a number, or rows that are
            one-hot.
        layers: Names of the gating layers, with or without `:gate`. Defaults
            to `None`, all whose gate is one number per channel.
        ax: matplotlib axes to plot on, if there is one layer.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no gate of channels, or not one label for each
            image, or `ax` for several layers.

    Reference:
        Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507, section
        7.2 (the figure of the excitations of five classes).

    Example:

    >>> from keras_attention.visualization import plot_channel_gates
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 6)),
    ...     keras_attention.SqueezeExcite(2, name="se"),
    ... ])
    >>> images = np.random.normal(size=(4, 8, 8, 6))
    >>> figure = plot_channel_gates(model, images, ["cat", "dog"] * 2)
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['cat', 'dog', 'all']
    """
    images, classes = check_images(images, labels)
    gates = read_channel_gates(model, images, layers)
    labels = np.asarray(classes)
    figure, plots = axes_grid(ax, len(gates), 3.2, 2.3)
    for plot, (tap, gate) in zip(plots, gates.items(), strict=True):
        means = {
            literal(label): gate[labels == label].mean(0)
            for label in np.unique(labels)
        }
        means["all"] = gate.mean(0)
        show = _show_rows if gate.shape[1] > MOST_LINE_CHANNELS else _show_lines
        show(plot, means)
        plot.set_title(wrapped(split_name(tap)[0], 40), fontsize=8)
        plot.set_xlabel("channel", fontsize=8)
        plot.tick_params(labelsize=7)
    with_lines = [plot for plot in plots if plot.lines]
    if not with_lines:
        return figure
    if ax is None:
        handles, names = with_lines[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(len(names), 6),
            fontsize=8,
        )
    else:
        ax.legend(fontsize=7)
    return figure


def _show_lines(plot, means):
    for n, (label, line) in enumerate(means.items()):
        is_all = n == len(means) - 1
        plot.plot(
            line,
            color="black" if is_all else f"C{n % 10}",
            linestyle="-" if is_all else ["-", "--", ":", "-."][n // 10 % 4],
            linewidth=1.3 if is_all else 1,
            label=label,
        )
    highest = max(line.max() for line in means.values())
    plot.set_ylabel("gate", fontsize=8)
    plot.set_xlim(0, max(len(means["all"]) - 1, 1))
    plot.set_ylim(0, max(1.03, 1.03 * highest))


def _show_rows(plot, means):
    table = np.stack(list(means.values()))
    image = plot.imshow(
        table,
        cmap="viridis",
        vmin=min(0, table.min()),
        vmax=max(1, table.max()),
        aspect="auto",
    )
    # As many labels as fit, that of all images among them.
    step = -(-len(means) // MOST_ROW_LABELS)
    rows = range((len(means) - 1) % step, len(means), step)
    names = list(means)
    plot.set_yticks(rows, [names[row] for row in rows])
    bar = plot.figure.colorbar(image, ax=plot, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("gate", fontsize=8)


def read_channel_gates(
    model: keras.Model, images: Any, layers: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Return the gates `(count, channels)` of the layers; one run."""
    if layers is None:
        found = readings.read(
            model, images, [], optional=readings.gate_taps(model)
        )
    else:
        check_names(layers)
        taps = [f"{layer.removesuffix(':gate')}:gate" for layer in layers]
        found = readings.read(model, images, taps)
    gates = {}
    for tap, value in found.items():
        gate = channel_gate(model, tap, value)
        if gate is not None:
            gates[tap] = gate
        elif layers is not None:
            raise ValueError(
                "A gate of channels has one number for each channel. "
                f"Received: '{tap}' with values of shape {value.shape}. "
                "`plot_attention_maps` plots gates over positions."
            )
    if not gates:
        raise ValueError(
            f"Model '{model.name}' has no gate of channels, such as that of a "
            "SqueezeExcite. `keras_attention.insert_attention` puts one in."
            + found.hint
        )
    return gates


def channel_gate(
    model: keras.Model, tap: str, value: np.ndarray
) -> np.ndarray | None:
    """The gate as `(count, channels)`, or `None` if it depends on positions."""
    if value.ndim != 4:
        return None
    image = readings.channels_last(model, split_name(tap)[0], value)
    return image[:, 0, 0] if image.shape[1:3] == (1, 1) else None
