"""`keras-attention layers`: the layers of a model."""

import dataclasses

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import load_model


@click.command()
@click.argument("model", metavar="MODEL.keras")
@IMPORTED
@JSON
def layers(model: str, imported: tuple[str, ...], as_json: bool) -> None:
    """List the layers of a model with their shapes, parameters and stages.

    The names are those that --layer and --pair take in other commands.

    Example: keras-attention layers model.keras
    """
    from keras_attention.inspection import list_layers

    found = list_layers(load_model(model, imported))
    if as_json:
        echo_json([dataclasses.asdict(row) for row in found])
    else:
        click.echo(found)
