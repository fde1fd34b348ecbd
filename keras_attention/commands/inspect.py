"""`keras-attention inspect`: what a file holds, without loading it."""

import dataclasses

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json


@click.command()
@click.argument("file", metavar="FILE")
@JSON
def inspect(file: str, as_json: bool) -> None:
    """Say what a file or export holds, without loading it.

    FILE is a .keras, .h5, .onnx, .safetensors, .npz or .npy file, one of
    torch (.pt, .pth, .bin, .ckpt), or the folder of an export. What could run
    code, open other files, or take more memory than the file has is listed
    as suspicious.

    Example: keras-attention inspect downloaded.keras
    """
    from keras_attention.files import inspect_file

    found = inspect_file(file)
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        click.echo(found)
