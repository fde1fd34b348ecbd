"""Plots of activation attention maps and spatial gates."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import split_name
from keras_attention.validation import check_labels
from keras_attention.visualization import readings
from keras_attention.visualization.figures import MAP_OPACITY
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
    class_names: Sequence[Any] | None = None,
    caption: str | None = None,
) -> "Figure":
    """Plot attention maps over images: one row per image, one column per layer.

    The map of an activation is the sum over its channels of the squared
    values, F_sum² of attention transfer, scaled to its largest value. The map
    of a gate, `"layer:gate"`, is its mean over the channels; its colors span
    the values of its column, which the title gives. Maps are placed over the
    image. Each model runs once, with all images.

    Args:
        model: A model, or a mapping from names to models, which are plotted
            side by side.
        images: Array `(count, height, width, channels)`, as the model takes
            it; `(count, channels, height, width)` for models of that format.
        layers: Names of layers whose output is an image, and of gates. For
            models with other names, a mapping from the models' names.
            Defaults to `None`, the end of each resolution, and the last gate
            over positions of each.
        labels: The label of each image: a text or a number, or rows that are
            one-hot. Defaults to `None`.
        class_names: The names of the classes, for classifiers with one
            output: under the maps of each model, its predicted class and the
            confidence; red where it is not the label. Defaults to `None`,
            without predictions.
        caption: A sentence under the figure. Defaults to `None`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `model` is no Keras model, or `layers` one string.
        ValueError: If a layer does not exist or has no map, if there is no
            image or not one label for each, or if `class_names` are not those
            of a model's outputs.

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
    images, labels = check_images(images, labels)
    found = {
        name: read_maps(
            each,
            images,
            layers[name] if isinstance(layers, Mapping) else layers,
        )
        for name, each in models.items()
    }
    predictions = {}
    if class_names is not None:
        predictions = {
            name: predicted_classes(name, maps.outputs, class_names, images)
            for name, maps in found.items()
        }
    first = next(iter(models.values()))
    shown = readings.input_images(first, images)
    count = sum(map(len, found.values()))
    height = 1.45 if predictions else 1.25
    figure = new_figure(1.3 * (count + 1) + 0.9, height * len(images) + 1)
    grid = grid_of_blocks(figure, len(images), list(map(len, found.values())))
    grid[0, 0].set_title("image", fontsize=9)
    for row, image in enumerate(shown):
        show_image(grid[row, 0], image)
        if labels is not None:
            grid[row, 0].set_ylabel(literal(labels[row]), fontsize=9)
    column = 1
    for name, maps in found.items():
        columns = grid[:, column : column + len(maps)]
        column += len(maps)
        for axes, (tap, values) in zip(columns.T, maps.items(), strict=True):
            limits = (0, 1)
            title = f"{literal(name)}\n{wrapped(tap)}".strip()
            if split_name(tap)[1] == "gate":
                limits = (values.min(), values.max())
                title += f"\n{limits[0]:.3g} to {limits[1]:.3g}"
            axes[0].set_title(title, fontsize=9)
            for ax, image, each in zip(axes, shown, values, strict=True):
                show_over(ax, image, each, *limits)
        if name in predictions:
            middle = columns[:, (len(maps) - 1) // 2]
            for row, (ax, (text, confidence)) in enumerate(
                zip(middle, predictions[name], strict=True)
            ):
                wrong = labels is not None and text != str(labels[row])
                ax.set_xlabel(
                    f"predicts {literal(text)}, {confidence:.0%}",
                    fontsize=9,
                    color="tab:red" if wrong else "black",
                )
    kinds = {split_name(tap)[1] for maps in found.values() for tap in maps}
    words = {"output": "squared activations", "gate": "gate"}
    add_color_bar(
        figure,
        grid,
        " or ".join(words[kind] for kind in words if kind in kinds),
    )
    if caption is not None:
        figure.supxlabel(literal(caption), fontsize=9)
    return figure


def predicted_classes(
    name: str, outputs: Any, class_names: Sequence[Any], images: np.ndarray
) -> list[tuple[str, float]]:
    """Return the most likely class of each image and its probability.

    Outputs that are not probabilities are taken as logits.
    """
    expected = (len(images), len(class_names))
    shape = getattr(outputs, "shape", None)
    if shape is None or tuple(shape) != expected:
        raise ValueError(
            "`class_names` must name the classes of a classifier's only "
            f"output, of shape {expected} here. Received: {len(class_names)} "
            f"class names for model '{name}' with "
            + (f"outputs of shape {tuple(shape)}" if shape else "other outputs")
        )
    values = readings.to_numpy(outputs)
    if values.min() < 0 or not np.allclose(values.sum(-1), 1, atol=1e-2):
        values = np.exp(values - values.max(-1, keepdims=True))
        values /= values.sum(-1, keepdims=True)
    return [
        (str(class_names[row.argmax()]), float(row.max())) for row in values
    ]


def grid_of_blocks(
    figure: "Figure", rows: int, blocks: Sequence[int]
) -> np.ndarray:
    """Add a column for the image, and blocks of columns with gaps between."""
    widths = [1.0]
    places = [0]
    for columns in blocks:
        widths += [0.1, *[1.0] * columns]
        places += range(len(widths) - columns, len(widths))
    spec = figure.add_gridspec(rows, len(widths), width_ratios=widths)
    return np.array(
        [
            [figure.add_subplot(spec[row, place]) for place in places]
            for row in range(rows)
        ]
    )


def add_color_bar(
    figure: "Figure", grid: np.ndarray, label: str, lowest: str = "low"
) -> None:
    """Add the colors of the maps, from the lowest to the highest value."""
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(
        ScalarMappable(cmap="viridis"),
        ax=grid,
        ticks=[0, 1],
        alpha=MAP_OPACITY,
        fraction=0.02,
        pad=0.01,
    )
    bar.ax.set_yticklabels([lowest, "high"], fontsize=9)
    bar.set_label(label, fontsize=9)


def read_maps(
    model: keras.Model, images: np.ndarray, layers: Sequence[str] | None
) -> readings.Readings:
    """Return the maps `(count, height, width)` of layers; one run."""
    if layers is not None:
        found = readings.read(model, images, layers)
        return _maps_of(model, found, found)
    readings.check_built(model)
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
    return _maps_of(model, found, [tap for tap in found if tap in chosen])


def _maps_of(model, found, taps):
    maps = {tap: to_map(model, tap, found[tap]) for tap in taps}
    return readings.Readings(maps, found.hint, found.outputs)


def to_map(model: keras.Model, tap: str, value: np.ndarray) -> np.ndarray:
    """The map of a layer's output, scaled to 1, or of its gate."""
    path, kind = split_name(tap)
    if value.ndim != 4 or kind not in ("output", "gate"):
        raise ValueError(
            "An attention map must be of a layer whose output is an "
            "image, (batch, height, width, channels). Received: layer "
            f"'{tap}' with values of shape {value.shape}"
        )
    image = readings.channels_last(model, path, value)
    if kind == "gate":
        if max(image.shape[1:3]) == 1:
            raise ValueError(
                "A gate of channels has no positions to plot over an image; "
                f"`plot_channel_gates` plots it. Received: '{tap}' with "
                f"values of shape {value.shape}"
            )
        return image.mean(-1)
    maps = np.square(image).sum(-1)
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)


def check_images(
    images: Any, labels: Sequence[Any] | None
) -> tuple[np.ndarray, list[Any] | None]:
    """Return the images as an array, and a label for each, or `None`."""
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "`images` must be a batch, (count, height, width, channels), of "
            f"one image or more. Received: images of shape {images.shape}"
        )
    if images.dtype.kind in "cOSU":
        raise ValueError(
            "`images` must be real numbers. Received: images of dtype "
            f"{images.dtype}"
        )
    if labels is None:
        return images, None
    return images, check_labels(labels, len(images))
