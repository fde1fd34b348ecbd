"""Plots of class activation maps."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_attention.visualization import readings
from keras_attention.visualization.attention_maps import add_color_bar
from keras_attention.visualization.attention_maps import check_images
from keras_attention.visualization.attention_maps import grid_of_blocks
from keras_attention.visualization.class_activation import class_activation
from keras_attention.visualization.class_scores import class_texts
from keras_attention.visualization.figures import literal
from keras_attention.visualization.figures import new_figure
from keras_attention.visualization.figures import show_image
from keras_attention.visualization.figures import show_over
from keras_attention.visualization.figures import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_class_activation(
    model: keras.Model | Mapping[str, keras.Model],
    images: Any,
    classes: int | Sequence[int] | None = None,
    layer: str | Mapping[str, str] | None = None,
    labels: Sequence[Any] | None = None,
    class_names: Sequence[Any] | None = None,
    output: str | int | None = None,
    caption: str | None = None,
) -> "Figure":
    """Plot where classifiers find their class: one row per image.

    The maps are those of `class_activation`, Grad-CAM, each scaled to its
    largest value and placed over the image; a map without a positive value
    is blank. Under it are the class and its probability.

    Args:
        model: A classifier, or a mapping from names to classifiers, which
            are plotted side by side.
        images: Array `(count, height, width, channels)`, as the model takes
            it; `(count, channels, height, width)` for models of that format.
        classes: The class of the maps, or one for each image. Defaults to
            `None`, the class that each model predicts.
        layer: See `class_activation`. For models with other names, a mapping
            from the models' names. Defaults to `None`, the last feature map
            before pooling.
        labels: The label of each image: a text or a number, or rows that are
            one-hot. Defaults to `None`.
        class_names: The names of the classes. A predicted class is red where
            the label is another of these names. Defaults to `None`, their
            numbers.
        output: Name or number of the output that has the class scores.
            Defaults to `None`, the only one.
        caption: A sentence under the figure. Defaults to `None`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: As `class_activation`, or if there is not one label for
            each image or one name for each class.

    Reference:
        Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391, section 3.

    Example:

    >>> from keras_attention.visualization import plot_class_activation
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(2, activation="softmax"),
    ... ])
    >>> images = np.random.normal(size=(2, 8, 8, 3))
    >>> figure = plot_class_activation(
    ...     model, images, classes=1, class_names=["cat", "dog"])
    >>> figure.axes[1].get_xlabel().split(",")[0]
    'dog'
    """
    models = model if isinstance(model, Mapping) else {"": model}
    images, labels = check_images(images, labels)
    found = {
        name: class_activation(
            each,
            images,
            classes,
            layer[name] if isinstance(layer, Mapping) else layer,
            output,
        )
        for name, each in models.items()
    }
    first = next(iter(models.values()))
    shown = readings.input_images(first, images)
    figure = new_figure(1.7 * (len(found) + 1) + 0.9, 1.75 * len(images) + 0.8)
    grid = grid_of_blocks(figure, len(images), [1] * len(found))
    grid[0, 0].set_title("image", fontsize=9)
    for row, image in enumerate(shown):
        show_image(grid[row, 0], image)
        if labels is not None:
            grid[row, 0].set_ylabel(literal(labels[row]), fontsize=9)
    for axes, (name, maps) in zip(grid.T[1:], found.items(), strict=True):
        title = f"{literal(name)}\n{wrapped(maps.layer)}".strip()
        axes[0].set_title(title, fontsize=9)
        texts = class_texts(name, maps.classes, maps.probabilities, class_names)
        scaled = scale_maps(maps.maps)
        for row, (ax, (text, confidence)) in enumerate(
            zip(axes, texts, strict=True)
        ):
            show_over(ax, shown[row], scaled[row], 0, 1)
            wrong = False
            if (
                classes is None
                and class_names is not None
                and labels is not None
            ):
                label = str(labels[row])
                wrong = text != label and label in map(str, class_names)
            verb = "predicts " if classes is None else ""
            ax.set_xlabel(
                f"{verb}{literal(text)}, {confidence:.0%}",
                fontsize=9,
                color="tab:red" if wrong else "black",
            )
    add_color_bar(figure, grid, "class activation (Grad-CAM)", "0")
    if caption is not None:
        figure.supxlabel(literal(caption), fontsize=9)
    return figure


def scale_maps(maps: np.ndarray) -> np.ndarray:
    """Scale each map to its largest value; leave those of 0."""
    peak = maps.max((1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)
