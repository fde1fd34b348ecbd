"""A plot of accuracy by distance: one line per model."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from keras_attention.visualization.figures import MARKERS
from keras_attention.visualization.figures import axes_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_accuracy_by_distance(
    accuracies: Mapping[str, Mapping[float, Sequence[float]]],
    trained: tuple[float, float] | None = None,
    baselines: Mapping[str, float | Mapping[float, float]] | None = None,
    title: str = "",
    ax: Any = None,
) -> "Figure":
    """Plot accuracy over distance, one line per model.

    A line joins the means; a bar at each point reaches from the smallest to
    the largest value, which are those of several seeds, or the ends of an
    interval.

    Args:
        accuracies: For each model's name, for each distance, the accuracies
            in [0, 1], one or several.
        trained: The smallest and largest distance in training; shaded.
        baselines: For each rule's name its accuracy, or its accuracy at each
            distance; plotted as dashed lines. Defaults to `None`.
        title: Title of the plot. Defaults to none.
        ax: matplotlib axes to plot on. Defaults to `None`, a new figure.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no model, or a model has no distance, or an
            accuracy is outside [0, 1].

    Example:

    >>> from keras_attention.visualization import plot_accuracy_by_distance
    >>> figure = plot_accuracy_by_distance(
    ...     {"lstm": {0: [0.98, 1.0], 8: [0.9, 0.94]}},
    ...     trained=(0, 4), baselines={"majority": 0.5})
    >>> figure.axes[0].get_xlabel()
    'distance (words)'
    """
    _check(accuracies)
    _, (ax,) = axes_grid(ax, 1, 6, 4)
    if trained is not None:
        ax.axvspan(*trained, color="0.92", zorder=0, label="trained range")
    # Lines are set off sideways so that bars at one distance do not hide each
    # other.
    distances = sorted({d for line in accuracies.values() for d in line})
    gaps = [b - a for a, b in zip(distances, distances[1:], strict=False)]
    step = 0.06 * min(gaps, default=0)
    for n, (name, line) in enumerate(accuracies.items()):
        shift = step * (n - (len(accuracies) - 1) / 2)
        x = sorted(line)
        means = [sum(line[d]) / len(line[d]) for d in x]
        low = [m - min(line[d]) for d, m in zip(x, means, strict=True)]
        high = [max(line[d]) - m for d, m in zip(x, means, strict=True)]
        ax.errorbar(
            [d + shift for d in x],
            means,
            # Means are rounded: a bar must not come out negative.
            yerr=[[max(v, 0) for v in low], [max(v, 0) for v in high]],
            marker=MARKERS[n % len(MARKERS)],
            markersize=5,
            capsize=2,
            label=name,
        )
    for n, (name, rule) in enumerate((baselines or {}).items()):
        values = (
            rule
            if isinstance(rule, Mapping)
            else dict.fromkeys(distances, rule)
        )
        x = sorted(values)
        ax.plot(
            x,
            [values[d] for d in x],
            color="0.4",
            linestyle=["--", ":", "-."][n % 3],
            label=name.replace("_", " "),
        )
    ax.set_xticks(distances)
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("distance (words)")
    ax.set_ylabel("accuracy")
    ax.set_title(title)
    # Flat, at the bottom: an accuracy is seldom that low.
    ax.legend(fontsize=7, loc="lower center", ncols=4)
    return ax.figure


def _check(accuracies):
    if not accuracies or not all(accuracies.values()):
        raise ValueError(
            "`accuracies` must have at least one model, and each at least one "
            f"distance. Received: accuracies={accuracies!r}"
        )
    for name, line in accuracies.items():
        for distance, values in line.items():
            if not len(values) or not all(0 <= v <= 1 for v in values):
                raise ValueError(
                    "`accuracies` must be sequences of numbers in [0, 1]. "
                    f"Received: {values!r} for model '{name}' at distance "
                    f"{distance}"
                )
