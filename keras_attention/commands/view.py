"""`keras-attention view`: a page in which one looks at what models see."""

import pathlib
from typing import Any

import click

from keras_attention.commands.inputs import check_new
from keras_attention.commands.inputs import input_options
from keras_attention.commands.inputs import model_names
from keras_attention.commands.inputs import read_inputs
from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import load_model


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="A folder of images, an image, an .npz file with an array x of "
    "images or token numbers (and perhaps y of labels), or a .txt file with "
    "one sentence a line.",
)
@click.option(
    "--compare", metavar="OTHER.keras", help="A second model, side by side."
)
@click.option(
    "--tokenizer",
    metavar="FILE",
    help="Of sentences: a text file with one token a line, as `evaluate` "
    "takes it. Without, a .txt file has token numbers.",
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

    One picks an example, a layer and a head in it. The file needs no network
    and no server; open it in a browser.

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
    write_attention_page(
        path,
        dict(zip(names, loaded, strict=True)),
        inputs.values,
        inputs.labels,
        inputs.words,
        layers or None,
        title or f"Attention of {' and '.join(names)}",
    )
    if as_json:
        shown = {"written": str(path), "examples": inputs.labels}
        echo_json(shown)
    else:
        size = path.stat().st_size / 1e6
        click.echo(f"Written: {path} ({size:.1f} MB). Open it in a browser.")
