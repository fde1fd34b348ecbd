"""Activation attention maps as pictures."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.ops.attention_maps import sum_map
from keras_attention.taps import read_taps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention_maps(
    model: keras.Model | Mapping[str, keras.Model],
    images: Any,
    layers: Sequence[str],
    labels: Sequence[str] | None = None,
) -> "Figure":
    """Draw where models look: one row an image, one column a layer.

    The map of an activation is the sum over its channels of the squared
    values, F_sum² of attention transfer, scaled to its largest value. Each
    model runs once.

    Args:
        model: a model, or a mapping from names to models, drawn side by side.
        images: array `(count, height, width, channels)`, as the model takes
            it.
        layers: names of layers whose output is an image; see
            `keras_attention.taps`.
        labels: a title for each image.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if a layer does not exist or its output is no image, or
            there is not one label for each image.

    Reference:
        Zagoruyko and Komodakis, Paying More Attention to Attention,
        ICLR 2017, arXiv:1612.03928, section 3.1.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib, which is not installed: "
            "pip install 'keras-attention-layers[visualization]'"
        ) from error
    models = model if isinstance(model, Mapping) else {"": model}
    images = np.asarray(images)
    if labels is not None and len(labels) != len(images):
        raise ValueError(
            "`labels` must have one entry for each image. Received: "
            f"{len(labels)} labels for {len(images)} images"
        )
    columns = {
        f"{name}\n{layer}".strip(): maps
        for name, each in models.items()
        for layer, maps in _maps(each, images, layers).items()
    }
    figure = Figure(
        figsize=(1.25 * (len(columns) + 1), 1.2 * len(images) + 0.6),
        layout="constrained",
        dpi=150,
    )
    grid = figure.subplots(len(images), len(columns) + 1, squeeze=False)
    for row, image in enumerate(images):
        _show(grid[row, 0], _displayable(image))
        if labels is not None:
            grid[row, 0].set_ylabel(labels[row], fontsize=8)
        for axes, maps in zip(grid[row, 1:], columns.values(), strict=True):
            _show(axes, maps[row], cmap="viridis", vmin=0, vmax=1)
    for axes, title in zip(grid[0], ["image", *columns], strict=True):
        axes.set_title(title, fontsize=8)
    return figure


def _maps(model, images, layers):
    """The map of each layer, each image's scaled to its largest value."""
    _, values = read_taps(model, images, layers)
    maps = {}
    for layer, value in values.items():
        if len(value.shape) != 4:
            raise ValueError(
                "An attention map is drawn of a layer whose output is an "
                "image, (batch, height, width, channels). Received: layer "
                f"'{layer}' with output shape {tuple(value.shape)}"
            )
        found = keras.ops.convert_to_numpy(sum_map(value))
        peak = found.max(axis=(1, 2), keepdims=True)
        maps[layer] = found / np.where(peak > 0, peak, 1)
    return maps


def _displayable(image):
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low if high > low else 1)
    return scaled[..., 0] if scaled.shape[-1] == 1 else scaled


def _show(axes, picture, **options):
    options.setdefault("cmap", "gray")
    axes.imshow(picture, interpolation="nearest", **options)
    axes.set_xticks([])
    axes.set_yticks([])
