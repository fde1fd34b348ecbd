"""What the plots share: figures without a display, images, squares."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Lines are told apart by marker as well as by color.
MARKERS = "osD^vP*X<>"
# Of a map over its image.
MAP_OPACITY = 0.65


def figure_class() -> type:
    """Return matplotlib's `Figure`, which needs no display.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures are plotted with matplotlib, which is not installed: "
            "pip install 'keras-attention-layers[visualization]'"
        ) from error
    return Figure


def new_figure(width: float, height: float) -> Any:
    """Make a figure of this size in inches, in which nothing overlaps."""
    return figure_class()(
        figsize=(width, height), layout="constrained", dpi=150
    )


def axes_grid(ax: Any, count: int, width: float, height: float) -> Any:
    """Return `(figure, list of axes)`: one axes for each of `count` plots.

    Args:
        ax: the user's axes, or `None`.
        count: number of plots.
        width: Width of a plot, in inches.
        height: Height of a plot.

    Raises:
        ValueError: If there is one `ax` for several plots.
    """
    if ax is not None:
        if count != 1:
            raise ValueError(
                f"`ax` holds one plot, and this is {count}. Received: "
                f"ax={ax!r}. Leave it out, or name one layer."
            )
        return ax.figure, [ax]
    columns = min(count, 4 if count > 6 else 3)
    rows = math.ceil(count / columns)
    figure = new_figure(width * columns, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in grid[count:]:
        empty.set_axis_off()
    return figure, list(grid[:count])


def displayable(image: np.ndarray) -> np.ndarray:
    """Scale an image to [0, 1]; `(H, W)` of one channel, `(H, W, 3)` else.

    Of two or more than three channels the first three are taken, or one.
    """
    image = np.asarray(image, "float64")
    image = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    finite = image[np.isfinite(image)]
    low, high = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    if not low < high:  # One value, or none that is finite.
        return np.zeros_like(image)
    return (np.clip(np.nan_to_num(image, nan=low), low, high) - low) / (
        high - low
    )


def show_image(ax: Any, image: np.ndarray) -> None:
    """Draw an image without ticks."""
    ax.imshow(displayable(image), cmap="gray", interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def show_over(
    ax: Any, image: np.ndarray, values: np.ndarray, low: float, high: float
) -> None:
    """Draw a map over a pale gray copy of the image, of the image's size.

    Its colors span the values from `low` to `high`.
    """
    below = displayable(image)
    below = below if below.ndim == 2 else below.mean(-1)
    height, width = below.shape
    ax.imshow(below, cmap="gray", vmin=-0.3, vmax=1, interpolation="nearest")
    ax.imshow(
        values,
        cmap="viridis",
        vmin=low,
        vmax=high,
        alpha=MAP_OPACITY,
        interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    ax.set_xticks([])
    ax.set_yticks([])


def set_token_labels(
    ax: Any, rows: Sequence[str] | None, columns: Sequence[str] | None
) -> None:
    """Label the rows and columns of a square with tokens, literally."""
    longest = max(len(each) for each in (rows, columns, ()) if each is not None)
    size = 7 if longest <= 16 else 5
    for axis, labels in ((ax.yaxis, rows), (ax.xaxis, columns)):
        if labels is None:
            axis.set_ticks([])
            continue
        axis.set_ticks(
            range(len(labels)),
            [literal(label) for label in labels],
            fontsize=size,
        )
    if columns is not None:
        ax.tick_params("x", rotation=90)


def literal(text: Any) -> str:
    """A text that matplotlib draws as it is: a dollar begins no formula."""
    return str(text).replace("$", r"\$")


def wrapped(path: str, width: int = 18) -> str:
    """Break a layer's long path into lines, after slashes and underscores."""
    lines = [""]
    for part in path.replace("/", "/\0").replace("_", "_\0").split("\0"):
        if len(lines[-1] + part) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return literal("\n".join(lines))
