"""Plots of the filters of lightweight and dynamic convolutions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import find_layer
from keras_attention.inspection.layer_paths import check_names
from keras_attention.types import Tensor
from keras_attention.visualization import readings
from keras_attention.visualization.figures import new_figure
from keras_attention.visualization.figures import set_token_labels
from keras_attention.visualization.figures import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_filters(
    model: keras.Model,
    tokens: Tensor | None = None,
    labels: Sequence[Any] | None = None,
    layers: Sequence[str] | None = None,
    ax: Any = None,
) -> "Figure":
    """Plot the normalized filters of convolutions with shared weights.

    A `LightweightConv1D` is one plot with a row for each head and a column
    for each position that the filter covers, counted from its own. A
    `DynamicConv1D` has different filters at each position: one plot for each
    head, with time downwards. Each layer has its own scale of colors. The
    model runs once, or not at all without `tokens`.

    Args:
        model: Model with such layers.
        tokens: One sequence, `(length,)` or `(1, length)`, for which dynamic
            filters are plotted. `None` plots lightweight filters alone.
        labels: A text for each token. Defaults to `None`, the positions.
        layers: Names of the layers, with or without `:filters`. Defaults to
            `None`, all that can be plotted.
        ax: matplotlib axes to plot on, if there is one plot.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no filter to plot, `tokens` are several
            sequences, `labels` of another number, or `ax` for several plots.

    Reference:
        Wu et al., Pay Less Attention with Lightweight and Dynamic
        Convolutions, arXiv:1901.10430.

    Example:

    >>> from keras_attention.models import TransformerLanguageModel
    >>> from keras_attention.visualization import plot_filters
    >>> model = TransformerLanguageModel(
    ...     9, "dynamic", width=8, num_blocks=1, num_heads=2,
    ...     feed_forward_dim=8)
    >>> logits = model(np.array([[2, 7, 3, 5]]))
    >>> figure = plot_filters(model, [2, 7, 3, 5])
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['head 0', 'head 1']
    """
    filters = read_filters(model, _one_sequence(tokens), layers)
    if ax is not None:
        count = sum(len(list(_plots(found))) for found in filters.values())
        if count != 1:
            raise ValueError(
                f"`ax` holds one plot, and there are {count}. Received: "
                f"ax={ax!r}. Name one layer of one head, or leave it out."
            )
        rows = [[ax]]
        figure = ax.figure
    else:
        figure, rows = _rows(filters)
    offsets = {
        layer: tap_offsets(find_layer(model, layer)) for layer in filters
    }
    for (layer, found), row in zip(filters.items(), rows, strict=True):
        lowest, highest = min(0, found.min()), found.max()
        for plot, (head, values) in zip(row, _plots(found), strict=True):
            drawn = plot.imshow(
                values,
                cmap="viridis",
                vmin=lowest,
                vmax=highest,
                aspect="auto",
                interpolation="nearest",
            )
            _label(plot, offsets[layer], head, values, labels)
        row[0].set_ylabel(
            f"{wrapped(layer)}\n" + ("head" if found.ndim == 2 else "time"),
            fontsize=7,
        )
        bar = figure.colorbar(drawn, ax=row)
        bar.set_label("weight", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    return figure


def read_filters(
    model: keras.Model, tokens: Tensor, layers: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Return filters by layer: `(heads, taps)`, `(count, time, heads, taps)`.

    With `tokens` the model runs once. Without, the filters of lightweight
    convolutions are computed from their weights.
    """
    known = readings.filter_layers(model)
    fixed = {p: layer for p, layer in known.items() if hasattr(layer, "kernel")}
    if layers is None:
        paths = list(known if tokens is not None else fixed)
    else:
        check_names(layers)
        paths = [layer.removesuffix(":filters") for layer in layers]
    if not paths:
        raise ValueError(
            f"Model '{model.name}' has no filters to plot"
            + (
                " without `tokens`: those of a DynamicConv1D depend on them."
                if known
                else ": it has no LightweightConv1D or DynamicConv1D."
            )
            + readings.hint(model)
        )
    if tokens is not None:
        taps = [f"{path}:filters" for path in paths]
        found = readings.read(model, tokens, taps)
        return {tap.removesuffix(":filters"): v for tap, v in found.items()}
    for path in paths:
        find_layer(model, path)
        if path not in fixed:
            raise ValueError(
                f"Layer '{path}' has no filters that are the same everywhere. "
                "Received: tokens=None. Give `tokens`."
            )
    return {
        path: readings.to_numpy(fixed[path].compute_filters(fixed[path].kernel))
        for path in paths
    }


def tap_offsets(layer: Any) -> np.ndarray:
    """The position of each tap of a layer's filter, from the filter's own."""
    taps = layer.kernel_size
    before = taps - 1 if layer.causal else (taps - 1) // 2
    return np.arange(taps) - before


def _one_sequence(tokens):
    if tokens is None:
        return None
    tokens = np.asarray(tokens)
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    if tokens.ndim < 2 or len(tokens) != 1:
        raise ValueError(
            "`tokens` must be one sequence, (length,) or (1, length). "
            f"Received: tokens of shape {tokens.shape}"
        )
    return tokens


def _plots(filters):
    """Yield `(head, values)` of each plot of a layer; `None` for all heads."""
    if filters.ndim == 2:
        yield None, filters
    else:
        for head in range(filters.shape[2]):
            yield head, filters[0, :, head]


def _rows(filters):
    """A row of axes for each layer, each with as many as it needs."""
    counts = [1 if f.ndim == 2 else f.shape[2] for f in filters.values()]
    heights = [
        0.7 + (0.18 * f.shape[0] if f.ndim == 2 else 0.14 * f.shape[1])
        for f in filters.values()
    ]
    heights = [min(max(1.2, height), 5) for height in heights]
    width = min(max(4.5, 1.3 * max(counts) + 1.5), 20)
    figure = new_figure(width, sum(heights) + 0.3)
    grid = figure.add_gridspec(len(counts), 1, height_ratios=heights)
    return figure, [
        list(cell.subgridspec(1, count).subplots(squeeze=False)[0])
        for cell, count in zip(grid, counts, strict=True)
    ]


def _label(ax, offsets, head, values, labels):
    step = max(1, -(-len(offsets) // 8))
    # Zero, the position itself, has a tick.
    shown = [n for n, offset in enumerate(offsets) if offset % step == 0]
    if head is not None:
        texts = range(len(values)) if labels is None else labels
        if len(texts) != len(values):
            raise ValueError(
                "`labels` must have one text for each token. Received: "
                f"{len(texts)} for {len(values)} tokens"
            )
        set_token_labels(ax, texts if head == 0 else None, None)
        ax.set_title(f"head {head}", fontsize=7)
    elif len(values) > 16:
        ax.set_yticks([])
    ax.set_xticks(
        shown, [f"{offsets[n]:+d}" if offsets[n] else "0" for n in shown]
    )
    ax.tick_params(labelsize=6)
    ax.set_xlabel("offset", fontsize=6, labelpad=1)
