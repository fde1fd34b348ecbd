"""`keras-attention view`: an interactive page of what models attend to."""

import pathlib
from typing import Any

import click

from keras_attention.commands.inputs import check_fits
from keras_attention.commands.inputs import check_new
from keras_attention.commands.inputs import input_options
from keras_attention.commands.inputs import model_names
from keras_attention.commands.inputs import read_inputs
from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import load_model
from keras_attention.commands.pixels import check_same_pixels
from keras_attention.commands.pixels import echo_pixels
from keras_attention.commands.pixels import pixels_json


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="A folder of images, an image, an .npz file with an array x of "
    "images or token IDs (and perhaps y of labels), or a .txt file with "
    "one sentence per line.",
)
@click.option(
    "--compare", metavar="OTHER.keras", help="A second model, side by side."
)
@click.option(
    "--tokenizer",
    metavar="FILE",
    help="Of sentences: a text file with one token per line, as `evaluate` "
    "takes it. Without, a .txt file has token IDs.",
)
@click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    help="Only this layer; may be repeated.  [default: all with gates, "
    "scores or filters, and the end of each resolution]",
)
@click.option("--title", help="Of the page.  [default: the models' files]")
@click.option(
    "--out", metavar="FILE.html", default="attention.html", show_default=True
)
@click.option("--overwrite", is_flag=True, help="Replace FILE.html.")
@JSON
@input_options(limit=12)
@IMPORTED
def view(
    model: str,
    data: str,
    compare: str | None,
    tokenizer: str | None,
    layers: tuple[str, ...],
    title: str | None,
    out: str,
    overwrite: bool,
    as_json: bool,
    imported: tuple[str, ...],
    **options: Any,
) -> None:
    """Write an HTML page that shows maps, gates and scores of a model.

    Choose an example, a layer and a head in it. Examples of a folder with
    classes come from each class in turn, and each has the class that a
    classifier predicts, and a map of where it finds the class, Grad-CAM. The
    file needs no network and no server; open it in a browser.

    \b
    Example: keras-attention view teacher.keras --data photos/ \\
      --compare student.keras --out attention.html
    """
    from keras_attention.visualization import write_attention_page

    path = check_new(out, ".html", overwrite)
    files = [model, *([compare] if compare else [])]
    names = model_names(files)
    loaded = [load_model(file, imported) for file in files]
    inputs = read_inputs(
        [pathlib.Path(data)], loaded[0], tokenizer=tokenizer, **options
    )
    labels, class_names = inputs.labels, None
    if inputs.pixels is not None:
        check_same_pixels(inputs.pixels, loaded[1:], options["pixels"])
    for other in loaded[1:]:
        check_fits(other, inputs)
    if inputs.pixels is not None:
        folders = classes(data)
        labels = with_predictions(names, loaded, inputs, folders)
        named = [names_of_classes(each, folders) for each in loaded]
        # One list of names for all models, if they have the same classes.
        class_names = named[0] if named.count(named[0]) == len(named) else None
    write_attention_page(
        path,
        dict(zip(names, loaded, strict=True)),
        inputs.values,
        labels,
        inputs.words,
        layers or None,
        title or f"Attention of {' and '.join(names)}",
        class_names,
    )
    if as_json:
        shown = {"written": str(path), "examples": labels}
        echo_json({**shown, "pixels": pixels_json(inputs.pixels)})
    else:
        echo_pixels(inputs.pixels)
        size = path.stat().st_size / 1e6
        click.echo(f"Written: {path} ({size:.1f} MB). Open it in a browser.")


def classes(data: str) -> list[str]:
    """Return the names of the classes of a folder of folders, in order."""
    folder = pathlib.Path(data)
    if not folder.is_dir():
        return []
    return sorted(
        child.name
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".")
    )


def with_predictions(
    names: list[str], models: list[Any], inputs: Any, class_names: list[str]
) -> list[str]:
    """Return the labels of the examples, with what classifiers predict."""
    labels = list(inputs.labels)
    for name, model in zip(names, models, strict=True):
        predicted = predictions(model, inputs.values, class_names)
        shown = f"{name}: " if len(models) > 1 else ""
        labels = [
            f"{label} \N{RIGHTWARDS ARROW} {shown}{text}" if text else label
            for label, text in zip(labels, predicted, strict=True)
        ]
    return labels


def predictions(model: Any, values: Any, class_names: list[str]) -> list[str]:
    """Return the class that a classifier predicts for each example.

    Other models than classifiers have none.
    """
    from keras_attention.visualization.class_scores import class_probabilities
    from keras_attention.visualization.class_scores import class_texts
    from keras_attention.visualization.class_scores import find_score_activation

    names = names_of_classes(model, class_names)
    if names is None:
        return [""] * len(values)
    activation, outputs, _ = find_score_activation(model, values)
    probabilities = class_probabilities(activation, outputs)
    classes = probabilities.argmax(1)
    texts = class_texts(model.name, classes, probabilities, names)
    return [f"{text} {100 * share:.0f} %" for text, share in texts]


def names_of_classes(model: Any, class_names: list[str]) -> list[str] | None:
    """Return the names of a classifier's classes; `None` for other models.

    A class has its folder's name if there are as many folders as the model
    has outputs, else its number.
    """
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] < 2:
        return None
    if len(class_names) == shape[1]:
        return class_names
    return [f"class {number}" for number in range(shape[1])]
