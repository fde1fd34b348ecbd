"""Activation attention maps and spatial gates as pictures."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import split_name
from keras_attention.visualization import readings
from keras_attention.visualization.figures import literal
from keras_attention.visualization.figures import new_figure
from keras_attention.visualization.figures import show_image
from keras_attention.visualization.figures import show_over
from keras_attention.visualization.figures import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention_maps(
    model: keras.Model | Mapping[str, keras.Model],
    images: Any,
    layers: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    labels: Sequence[Any] | None = None,
) -> "Figure":
    """Draw where models look: one row an image, one column a layer.

    The map of an activation is the sum over its channels of the squared
    values, F_sum² of attention transfer, scaled to its largest value. That of
    a gate, `"layer:gate"`, is its mean over the channels; its colours span
    the values of its column, which the title tells. Maps lie over the image.
    Each model runs once, with all images.

    Args:
        model: a model, or a mapping from names to models, drawn side by side.
        images: array `(count, height, width, channels)`, as the model takes
            it; `(count, channels, height, width)` for models of that format.
        layers: names of layers whose output is an image, and of gates; see
            `keras_attention.inspection`. For models with other names, a mapping
            from the models' names. `None` for the end of each resolution,
            and the last gate over positions of each.
        labels: a title for each image.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if a layer does not exist or has no map, or there is no
            image or not one label for each.

    Reference:
        Zagoruyko and Komodakis, Paying More Attention to Attention,
        ICLR 2017, arXiv:1612.03928, section 3.1.

    Example:

    >>> from keras_attention.visualization import plot_attention_maps
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras_attention.SpatialAttention(name="where"),
    ... ])
    >>> images = np.random.normal(size=(2, 8, 8, 1))
    >>> figure = plot_attention_maps(model, images, labels=["cat", "dog"])
    >>> [ax.get_title().split("\\n")[0] for ax in figure.axes[:3]]
    ['image', 'where:gate', 'where']
    """
    models = model if isinstance(model, Mapping) else {"": model}
    images = check_images(images, labels)
    columns = {}
    for name, each in models.items():
        chosen = layers[name] if isinstance(layers, Mapping) else layers
        for tap, maps in read_maps(each, images, chosen).items():
            title = f"{literal(name)}\n{wrapped(tap)}".strip()
            if split_name(tap)[1] == "gate":
                title += f"\n{maps.min():.3g} to {maps.max():.3g}"
            columns[title] = (tap, maps)
    first = next(iter(models.values()))
    shown = readings.input_images(first, images)
    figure = new_figure(1.3 * (len(columns) + 1), 1.25 * len(images) + 0.7)
    grid = figure.subplots(len(images), len(columns) + 1, squeeze=False)
    for row, image in enumerate(shown):
        show_image(grid[row, 0], image)
        if labels is not None:
            grid[row, 0].set_ylabel(literal(labels[row]), fontsize=8)
        for ax, (tap, maps) in zip(
            grid[row, 1:], columns.values(), strict=True
        ):
            is_gate = split_name(tap)[1] == "gate"
            limits = (maps.min(), maps.max()) if is_gate else (0, 1)
            show_over(ax, image, maps[row], *limits)
    for ax, title in zip(grid[0], ["image", *columns], strict=True):
        ax.set_title(title, fontsize=7)
    return figure


def read_maps(
    model: keras.Model, images: np.ndarray, layers: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Return the maps `(count, height, width)` of layers; one run."""
    if layers is not None:
        values = readings.read(model, images, layers)
        return {tap: to_map(model, tap, value) for tap, value in values.items()}
    ends = readings.stage_names(model)
    found = readings.read(
        model, images, [], optional=[*ends, *readings.gate_taps(model)]
    )
    gates = {
        tap: readings.image_shape(model, tap, value)
        for tap, value in found.items()
        if value.ndim == 4 and split_name(tap)[1] == "gate"
    }
    chosen = {*ends, *readings.last_of_each_size(gates)} & set(found)
    if not chosen:
        raise ValueError(
            f"No layer of model '{model.name}' was found whose output is an "
            "image. Name layers: `layers=[...]`." + found.hint
        )
    return {
        tap: to_map(model, tap, found[tap]) for tap in found if tap in chosen
    }


def to_map(model: keras.Model, tap: str, value: np.ndarray) -> np.ndarray:
    """The map of a layer's output, scaled to 1, or of its gate."""
    path, kind = split_name(tap)
    if value.ndim != 4 or kind not in ("output", "gate"):
        raise ValueError(
            "An attention map is drawn of a layer whose output is an "
            "image, (batch, height, width, channels). Received: layer "
            f"'{tap}' with values of shape {value.shape}"
        )
    image = readings.channels_last(model, path, value)
    if kind == "gate":
        if max(image.shape[1:3]) == 1:
            raise ValueError(
                "A gate of channels has no positions to draw over an image; "
                f"`plot_channel_gates` draws it. Received: '{tap}' with "
                f"values of shape {value.shape}"
            )
        return image.mean(-1)
    maps = np.square(image).sum(-1)
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)


def check_images(images: Any, labels: Sequence[Any] | None) -> np.ndarray:
    """Return the images as an array; check that each has its label."""
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "`images` must be a batch, (count, height, width, channels), of "
            f"one image or more. Received: images of shape {images.shape}"
        )
    if labels is not None and len(labels) != len(images):
        raise ValueError(
            "`labels` must have one entry for each image. Received: "
            f"{len(labels)} labels for {len(images)} images"
        )
    return images
