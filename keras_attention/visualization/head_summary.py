"""What each attention head does, in two numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.types import Tensor
from keras_attention.validation import check_choices
from keras_attention.visualization.attention_heads import all_scores
from keras_attention.visualization.attention_heads import as_inputs
from keras_attention.visualization.figures import axes_grid
from keras_attention.visualization.figures import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("entropy", "distance")


def plot_head_summary(
    model: keras.Model,
    tokens: Tensor,
    layers: Sequence[str] | None = None,
    measures: Sequence[str] = MEASURES,
    mask: Tensor | None = None,
    ax: Any = None,
) -> "Figure":
    """Plot entropy and mean distance of each head, layers by heads.

    The entropy of a query's scores, in bits, is 0 where one key has all the
    weight and log2 of the number of keys where all have the same. The distance
    is the mean of |query - key| under the scores. Both are means over the
    queries of all sequences, without padding. A head of small distance attends
    to its neighbors. Distance is left blank for attention to another sequence.
    The model runs once.

    Args:
        model: Model with attention layers that return their scores.
        tokens: Sequences as the model takes them, `(count, length)`.
        layers: Names of attention layers, with or without `:scores`. Defaults
            to `None`, all of them.
        measures: `"entropy"`, `"distance"` or both.
        mask: Booleans `(count, queries)`, False for padding. Defaults to
            `None`, the padding that the model itself masks.
        ax: matplotlib axes to plot on, if there is one measure.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no attention layer, another measure, or `ax`
            for both.

    Reference:
        Clark et al., What Does BERT Look At?, arXiv:1906.04341, section 3
        (entropy); Vig and Belinkov, arXiv:1906.04284, section 4 (distance).

    Example:

    >>> from keras_attention.models import TransformerLanguageModel
    >>> from keras_attention.visualization import plot_head_summary
    >>> model = TransformerLanguageModel(
    ...     9, width=8, num_blocks=2, num_heads=2, feed_forward_dim=8)
    >>> figure = plot_head_summary(model, np.array([[2, 7, 3], [2, 5, 0]]))
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['entropy (bits)', 'mean distance (tokens)']
    """
    measures = check_choices("measures", measures, MEASURES)
    scores, paddings = all_scores(model, as_inputs(tokens), layers)
    figure, plots = axes_grid(
        ax,
        len(measures),
        1.9 + 0.45 * max(value.shape[1] for value in scores.values()),
        1.2 + 0.4 * len(scores),
    )
    for plot, measure in zip(plots, measures, strict=True):
        table = np.full(
            (len(scores), max(v.shape[1] for v in scores.values())), np.nan
        )
        for row, (layer, value) in enumerate(scores.items()):
            real = ~paddings[layer][0]
            if mask is not None:
                real = real & np.asarray(mask, bool)
            table[row, : value.shape[1]] = summarize(value, real)[measure]
        _show_table(plot, table, list(scores))
        plot.set_title(
            {"entropy": "entropy (bits)", "distance": "mean distance (tokens)"}[
                measure
            ],
            fontsize=9,
        )
    return figure


def summarize(
    scores: np.ndarray, mask: Tensor | None = None
) -> dict[str, np.ndarray]:
    """Entropy and distance of each head, `(heads,)` each.

    Args:
        scores: `(count, heads, queries, keys)`.
        mask: Booleans `(count, queries)`, or `None`.
    """
    scores = np.asarray(scores, "float64")
    count, _, num_queries, num_keys = scores.shape
    real = np.ones((count, num_queries), bool)  # [B, T]
    if mask is not None:
        real = np.broadcast_to(np.asarray(mask, bool), real.shape)
    logs = np.log2(np.where(scores > 0, scores, 1))
    entropy = -(scores * logs).sum(-1)  # [B, N, T]
    away = np.abs(np.arange(num_queries)[:, None] - np.arange(num_keys))
    distance = (scores * away).sum(-1)
    if num_queries != num_keys:
        distance = np.full_like(distance, np.nan)
    weight = real[:, None] / max(real.sum(), 1)
    return {
        "entropy": (entropy * weight).sum((0, 2)),
        "distance": (distance * weight).sum((0, 2)),
    }


def _show_table(ax, table, layers):
    highest = np.nanmax(table) if np.isfinite(table).any() else 0
    drawn = ax.imshow(
        table, cmap="viridis", vmin=0, vmax=highest or 1, aspect="auto"
    )
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            ax.text(
                column,
                row,
                f"{value:.2g}" if value < 10 else f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value < 0.6 * highest else "black",
            )
    ax.set_yticks(range(len(layers)), list(map(wrapped, layers)), fontsize=7)
    ax.set_xticks(range(table.shape[1]))
    ax.tick_params("x", labelsize=7)
    ax.set_xlabel("head", fontsize=8)
    return drawn
