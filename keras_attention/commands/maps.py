"""`keras-attention maps`: a figure of what a model attends to."""

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
from keras_attention.commands.view import classes
from keras_attention.commands.view import names_of_classes


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--compare",
    metavar="OTHER.keras",
    help="A second model, side by side.",
)
@click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    help="Layer, or NAME:gate, of both models; may be repeated.  [default: "
    "the end of each resolution, and the gates over positions there]",
)
@click.option(
    "--compare-layer",
    "compare_layers",
    metavar="NAME",
    multiple=True,
    help="The same of OTHER.keras, if its layers have other names.",
)
@click.option(
    "--class-activation",
    is_flag=True,
    help="Where each model finds the class that it predicts (Grad-CAM), in "
    "place of attention maps; at one layer.  [default: the last before "
    "pooling]",
)
@click.option(
    "--out", metavar="FILE.png", default="attention_maps.png", show_default=True
)
@click.option("--overwrite", is_flag=True, help="Replace FILE.png.")
@JSON
@input_options(limit=6)
@IMPORTED
def maps(
    model: str,
    images: tuple[str, ...],
    compare: str | None,
    layers: tuple[str, ...],
    compare_layers: tuple[str, ...],
    class_activation: bool,
    out: str,
    overwrite: bool,
    as_json: bool,
    imported: tuple[str, ...],
    **options: Any,
) -> None:
    """Plot the attention maps of a model, or of two, over images.

    IMAGE is a file, a folder, or an .npz file with an array x of images and
    perhaps y of labels. Files and arrays of 8-bit pixels are scaled to the
    range that the model takes, arrays of floats taken as they are.

    \b
    Example: keras-attention maps teacher.keras cat.jpg dog.jpg \\
      --compare student.keras --out maps.png
    """
    from keras_attention.visualization import plot_attention_maps
    from keras_attention.visualization import plot_class_activation

    path = check_new(out, ".png", overwrite)
    if compare_layers and compare is None:
        raise click.UsageError("--compare-layer is of --compare OTHER.keras.")
    if class_activation and max(len(layers), len(compare_layers)) > 1:
        raise click.UsageError("--class-activation is computed at one --layer.")
    files = [model, *([compare] if compare else [])]
    loaded = [load_model(file, imported) for file in files]
    inputs = read_inputs(list(map(pathlib.Path, images)), loaded[0], **options)
    if inputs.pixels is not None:
        check_same_pixels(inputs.pixels, loaded[1:], options["pixels"])
    for other in loaded[1:]:
        check_fits(other, inputs)
    names = model_names(files) if compare else [""]
    chosen = [layers or None, compare_layers or layers or None]
    by_name = dict(zip(names, loaded, strict=True))
    if class_activation:
        one = [each[0] if each else None for each in chosen]
        figure = plot_class_activation(
            by_name,
            inputs.values,
            layer=dict(zip(names, one, strict=False)),
            labels=inputs.labels,
            class_names=_class_names(loaded, images),
        )
    else:
        figure = plot_attention_maps(
            by_name,
            inputs.values,
            dict(zip(names, chosen, strict=False)),
            inputs.labels,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    if as_json:
        shown = {"written": str(path), "images": inputs.labels}
        echo_json({**shown, "pixels": pixels_json(inputs.pixels)})
    else:
        echo_pixels(inputs.pixels)
        click.echo(f"Written: {path}")


def _class_names(models, images):
    """The names of the folders of a single folder's images, if they fit."""
    folders = classes(images[0]) if len(images) == 1 else []
    named = [names_of_classes(model, folders) for model in models]
    return folders if all(each is folders for each in named) else None
