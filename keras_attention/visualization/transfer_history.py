"""The parts of the loss of an attention transfer over its epochs."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_attention.visualization.figures import MARKERS
from keras_attention.visualization.figures import axes_grid
from keras_attention.visualization.figures import literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALIDATION = "val_"
# What `AttentionTransferModel` reports, and its label in the plot.
PARTS = {
    "loss": "total",
    "label_loss": "labels",
    "distillation_loss": "distillation",
    "attention_loss": "attention, all pairs",
    "gradient_loss": "gradients",
    "symmetry_loss": "symmetry",
    "regularization_loss": "regularization",
}
PAIR = "attention/"


def plot_transfer_history(
    history: Any, ax: Any = None, title: str = ""
) -> "Figure":
    """Plot the losses of labels, distillation and each pair over the epochs.

    The pairs are thin lines. Losses of validation are dashed, in the color
    of the training's. The scale is logarithmic, since parts differ by orders
    of magnitude; values that are not positive are omitted.

    Args:
        history: What `AttentionTransferModel.fit` returns, or a mapping from
            names to a value for each epoch, such as its `history`.
        ax: matplotlib axes to plot on. Defaults to `None`, a new figure.
        title: Title of the plot. Defaults to none.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no loss in it, or no epoch.

    Example:

    >>> from keras_attention.visualization import plot_transfer_history
    >>> figure = plot_transfer_history({
    ...     "loss": [3.0, 2.0], "label_loss": [2.0, 1.5],
    ...     "attention_loss": [0.01, 0.005], "attention/stage1": [0.01, 0.005],
    ...     "accuracy": [0.3, 0.5]})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['total', 'labels', 'attention, all pairs', 'stage1']
    """
    values = getattr(history, "history", history)
    lines = _lines(values)
    figure, (plot,) = axes_grid(ax, 1, 6.5, 4)
    colors: dict[str, str] = {}
    for name, label, is_pair in lines:
        color = colors.setdefault(name, f"C{len(colors) % 10}")
        marker = MARKERS[(len(colors) - 1) % len(MARKERS)]
        for key, style in ((name, "-"), (VALIDATION + name, "--")):
            if key not in values:
                continue
            found = np.asarray(values[key], "float64")
            plot.plot(
                np.arange(1, len(found) + 1),
                np.where(found > 0, found, np.nan),
                color=color,
                linestyle=style,
                linewidth=0.8 if is_pair else 1.6,
                marker=marker,
                markersize=3 if is_pair else 4,
                label=literal(label + (" (validation)" * (style == "--"))),
            )
    plot.set_yscale("log")
    plot.xaxis.get_major_locator().set_params(integer=True)
    plot.set_xlabel("epoch")
    plot.set_ylabel("loss")
    plot.set_title(title)
    plot.grid(axis="y", color="0.9")
    if ax is None:
        figure.legend(loc="outside right upper", fontsize=8, handlelength=3)
    else:
        plot.legend(fontsize=7)
    return figure


def _lines(values: Mapping[str, Sequence[float]]) -> list[tuple]:
    """`(name, label, whether it is one pair)` of each part that is there."""
    known = [(name, label, False) for name, label in PARTS.items()]
    known += [
        (name, name.removeprefix(PAIR), True)
        for name in values
        if name.startswith(PAIR)
    ]
    found = [line for line in known if line[0] in values]
    if not found or not all(len(values[name]) for name, _, _ in found):
        raise ValueError(
            "`history` must have losses, one for each epoch, as "
            "AttentionTransferModel.fit returns them. Received: "
            f"{ {name: len(each) for name, each in values.items()} }"
        )
    return found
