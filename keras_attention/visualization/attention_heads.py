"""Plots of the scores of attention heads."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.inspection.layer_paths import check_names
from keras_attention.types import Tensor
from keras_attention.visualization import readings
from keras_attention.visualization.figures import new_figure
from keras_attention.visualization.figures import set_token_labels
from keras_attention.visualization.figures import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNSEEN = "0.82"
_HATCH = {"hatch": "////", "edgecolor": "0.55"}

Labels = Sequence[Any] | Mapping[str, tuple[Sequence[Any], Sequence[Any]]]


def plot_attention_heads(
    model: keras.Model,
    tokens: Tensor,
    labels: Labels | None = None,
    layers: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    mask: Tensor | None = None,
    ax: Any = None,
) -> "Figure":
    """Plot attention scores: one row per layer, one column per head.

    Each square has a row for each query and a column for each key; a row sums
    to 1. Gray is a score of exactly 0, as of keys that come later or outside
    a window. Padding is hatched: the queries and keys that the masks of the
    layer's inputs, or `mask`, exclude. Colors range from 0 to 1 in all
    squares. The model runs once.

    Args:
        model: Model with attention layers that return their scores, of this
            package or of Keras.
        tokens: One sequence as the model takes it: token IDs, `(length,)`
            or `(1, length)`; or a list or dictionary of several inputs, each
            `(1, length)`.
        labels: A text for each token. In a model of two sequences, a mapping
            from names of layers to the texts of queries and of keys. Defaults
            to `None`, the positions.
        layers: Names of attention layers, with or without `:scores`. Defaults
            to `None`, all of them.
        heads: Indices of the heads, from 0. Defaults to `None`, all of them.
        mask: For self-attention, booleans `(length,)`, False for padding
            that the model does not mask itself. Defaults to `None`.
        ax: matplotlib axes to plot on, if there is one layer and one head.
            Defaults to `None`, a new figure.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no attention layer, more than one sequence, a
            head that does not exist, labels of another number than the
            tokens, or `ax` for several squares.

    Example:

    >>> from keras_attention.models import TransformerLanguageModel
    >>> from keras_attention.visualization import plot_attention_heads
    >>> model = TransformerLanguageModel(
    ...     9, width=6, num_blocks=2, num_heads=3, feed_forward_dim=8)
    >>> words = ["the", "dog", "barks", "[PAD]"]
    >>> figure = plot_attention_heads(model, [2, 7, 3, 0], words)
    >>> len(figure.axes)
    7
    """
    scores, paddings = read_scores(model, tokens, layers, mask)
    squares = {
        layer: {head: value[0, head] for head in _heads(layer, value, heads)}
        for layer, value in scores.items()
    }
    texts = {
        layer: token_labels(labels, layer, *value.shape[2:])
        for layer, value in scores.items()
    }
    paddings = {
        layer: (queries[0], keys[0])
        for layer, (queries, keys) in paddings.items()
    }
    columns = max(map(len, squares.values()))
    if ax is not None:
        if len(squares) * columns > 1:
            raise ValueError(
                f"`ax` holds one square, and there are {len(squares)} layers "
                f"with up to {columns} heads. Received: ax={ax!r}. Name one "
                "layer and one head."
            )
        figure, grid = ax.figure, np.array([[ax]])
    else:
        side = min(
            max(1.2, 0.16 * max(max(s.shape) for s in scores.values())), 4
        )
        figure = new_figure(side * columns + 2.2, side * len(squares) + 1.0)
        grid = figure.subplots(len(squares), columns, squeeze=False)
    for row, (layer, found) in zip(grid, squares.items(), strict=True):
        for empty in row[len(found) :]:
            empty.set_axis_off()
        for n, (plot, head) in enumerate(zip(row, found, strict=False)):
            queries, keys = texts[layer]
            drawn = _show_scores(plot, found[head], paddings[layer])
            is_lowest = layer == list(squares)[-1]
            shared = all(text == texts[layer] for text in texts.values())
            set_token_labels(
                plot,
                queries if n == 0 else None,
                keys if is_lowest or not shared else None,
            )
            plot.set_title(f"head {head}", fontsize=7)
            if n == 0:
                plot.set_ylabel(wrapped(layer), fontsize=7)
    _add_legend(figure, grid, drawn, scores, paddings)
    return figure


def read_scores(
    model: keras.Model,
    tokens: Tensor,
    layers: Sequence[str] | None = None,
    mask: Tensor | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """As `all_scores`, of one sequence."""
    inputs = keras.tree.map_structure(_one_sequence, as_inputs(tokens))
    return all_scores(model, inputs, layers, mask)


def all_scores(
    model: keras.Model,
    inputs: Tensor,
    layers: Sequence[str] | None = None,
    mask: Tensor | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return scores and padding by layer; one run.

    Returns:
        Scores `(count, heads, queries, keys)`, and pairs of booleans
        `(count, queries)` and `(count, keys)`, True for padding.
    """
    if layers is None:
        names = readings.score_taps(model)
        found = readings.read(
            model, inputs, [], optional=[*names, *map(mask_name, names)]
        )
    else:
        check_names(layers)
        names = [f"{layer.removesuffix(':scores')}:scores" for layer in layers]
        found = readings.read(model, inputs, [*names, *map(mask_name, names)])
    scores = {
        name.removesuffix(":scores"): to_heads(name, value)
        for name, value in found.items()
        if name in names
    }
    if not scores:
        raise ValueError(
            f"Model '{model.name}' has no attention layer that returns its "
            "scores, such as a MultiHeadAttention." + found.hint
        )
    paddings = {
        layer: find_padding(value, found[f"{layer}:masks"], mask)
        for layer, value in scores.items()
    }
    return scores, paddings


def mask_name(scores: str) -> str:
    """The name of a layer's masks, from that of its scores."""
    return scores.removesuffix(":scores") + ":masks"


def to_heads(tap: str, value: np.ndarray) -> np.ndarray:
    """Scores with an axis of heads: `(count, heads, queries, keys)`."""
    if value.ndim == 3:
        value = value[:, None]
    if value.ndim != 4:
        raise ValueError(
            "Scores of heads have the shape (batch, heads, queries, keys). "
            f"Received: '{tap}' with values of shape {value.shape}"
        )
    return value


def find_padding(
    scores: np.ndarray,
    masks: tuple[np.ndarray | None, np.ndarray | None],
    mask: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which queries and which keys are padding.

    Scores say nothing of it: a real key may have a score of 0.

    Args:
        scores: Of shape `(count, heads, queries, keys)`.
        masks: The layer's masks of queries and of keys, each of shape
            `(count, length)` or `None`.
        mask: For self-attention, booleans `(length,)` or `(count, length)`,
            False for more padding.

    Returns:
        Booleans `(count, queries)` and `(count, keys)`.
    """
    count, _, *lengths = scores.shape
    queries, keys = (
        np.zeros((count, length), bool)
        if mask is None
        else ~np.broadcast_to(mask, (count, length))
        for mask, length in zip(masks, lengths, strict=True)
    )
    if mask is not None:
        extra = ~np.atleast_2d(np.asarray(mask, bool))
        if extra.shape[1:] != queries.shape[1:] or lengths[0] != lengths[1]:
            raise ValueError(
                "`mask` must have one boolean for each token. Received: shape "
                f"{np.shape(mask)} for {lengths[0]} queries and {lengths[1]} "
                "keys"
            )
        queries, keys = queries | extra, keys | extra
    return queries, keys


def token_labels(
    labels: Labels | None, layer: str, num_queries: int, num_keys: int
) -> tuple[list[str], list[str]]:
    """The texts of a layer's queries and keys."""
    if labels is None:
        pair = (range(num_queries), range(num_keys))
    elif isinstance(labels, Mapping):
        if layer not in labels:
            raise ValueError(
                "`labels` must have the texts of each plotted layer, its "
                f"queries' and keys'. Received: none for layer '{layer}'"
            )
        pair = labels[layer]
    else:
        pair = (labels, labels)
    if (len(pair[0]), len(pair[1])) != (num_queries, num_keys):
        raise ValueError(
            "`labels` must have one text for each token. Received: "
            f"{len(pair[0])} and {len(pair[1])} for layer '{layer}' with "
            f"{num_queries} queries and {num_keys} keys. For two sequences "
            "give {'layer': (query texts, key texts), ...}."
        )
    return [str(text) for text in pair[0]], [str(text) for text in pair[1]]


def as_inputs(tokens: Tensor) -> Any:
    """A list of numbers is one input; a list of arrays is several."""
    if isinstance(tokens, dict):
        return {name: np.asarray(each) for name, each in tokens.items()}
    if isinstance(tokens, list | tuple) and any(
        hasattr(each, "shape") for each in tokens
    ):
        return [np.asarray(each) for each in tokens]
    return np.asarray(tokens)


def _one_sequence(tokens):
    tokens = np.asarray(tokens)
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    if tokens.ndim < 2 or len(tokens) != 1:
        raise ValueError(
            "`tokens` must be one sequence, (length,) or (1, length). "
            f"Received: tokens of shape {tokens.shape}"
        )
    return tokens


def _heads(layer, scores, heads):
    count = scores.shape[1]
    for head in heads or ():
        if not 0 <= head < count:
            raise ValueError(
                f"Layer '{layer}' has the heads 0 to {count - 1}. Received: "
                f"heads={list(heads)}"
            )
    return range(count) if heads is None else heads


def _show_scores(ax, scores, padding):
    """Draw one head; scores of 0 are gray, padding is hatched."""
    from matplotlib.patches import Rectangle

    drawn = ax.imshow(
        np.ma.masked_where(scores == 0, scores),
        cmap="viridis",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    ax.set_facecolor(UNSEEN)
    num_queries, num_keys = scores.shape
    queries, keys = padding
    strips = [(-0.5, n - 0.5, num_keys, 1) for n in np.flatnonzero(queries)]
    strips += [(n - 0.5, -0.5, 1, num_queries) for n in np.flatnonzero(keys)]
    for x, y, width, height in strips:
        ax.add_patch(
            Rectangle((x, y), width, height, fill=False, linewidth=0, **_HATCH)
        )
    return drawn


def _add_legend(figure, grid, drawn, scores, paddings):
    from matplotlib.patches import Patch

    bar = figure.colorbar(drawn, ax=list(grid.ravel()), fraction=0.05)
    bar.set_label("score", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    handles = []
    if any((value == 0).any() for value in scores.values()):
        handles.append(Patch(facecolor=UNSEEN, label="score of 0"))
    if any(part.any() for pair in paddings.values() for part in pair):
        handles.append(Patch(facecolor=UNSEEN, label="padding", **_HATCH))
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=len(handles),
            fontsize=7,
        )
