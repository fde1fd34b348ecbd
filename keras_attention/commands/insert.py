"""`keras-attention insert`: attention into a saved model."""

import functools
import json
import os
import pathlib
import re
import uuid

import click

from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import SITE_KINDS
from keras_attention.commands.load import load_model


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.option(
    "--attention", required=True, help="A name that `list` shows, as cbam."
)
@click.option(
    "--at", type=SITE_KINDS, help="Kind of site.  [default: residual]"
)
@click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    help="After this layer instead; may be repeated.",
)
@click.option(
    "--matching",
    metavar="REGEX",
    help="After the layers whose names match instead.",
)
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="Argument of the attention layer, as ratio=8; may be repeated.",
)
@click.option(
    "--preserve-outputs",
    is_flag=True,
    help="Start as the identity: the outputs stay as they are at first.",
)
@click.option("--out", metavar="NEW.keras", required=True)
@click.option("--overwrite", is_flag=True, help="Replace NEW.keras.")
@IMPORTED
def insert(
    model: str,
    attention: str,
    at: str | None,
    layers: tuple[str, ...],
    matching: str | None,
    settings: tuple[str, ...],
    preserve_outputs: bool,
    out: str,
    overwrite: bool,
    imported: tuple[str, ...],
) -> None:
    """Put attention into a saved model and save the result.

    Example: keras-attention insert model.keras --attention cbam
    --at residual --preserve-outputs --out new.keras
    """
    from keras_attention.layers.registry import find_attention
    from keras_attention.surgery import insert_attention
    from keras_attention.surgery import insertion_report

    if sum(map(bool, (at, layers, matching))) > 1:
        raise ValueError(
            "The places are told by one of --at, --layer and --matching. "
            f"Received: at={at}, layer={list(layers)}, matching={matching}"
        )
    path = pathlib.Path(out)
    _check_out(path, overwrite)
    made = find_attention(attention)
    if settings:
        made = functools.partial(made, **dict(map(_setting, settings)))
    original = load_model(model, imported)
    place = at or list(layers) or "residual"
    new = insert_attention(
        original,
        made,
        _pattern(matching) if matching else place,
        preserve_outputs,
    )
    _save(new, path, overwrite)
    click.echo(insertion_report(original, new))
    click.echo(f"Written: {path}")


def _setting(text):
    """`("ratio", 8)` of `"ratio=8"`; what is no JSON is a string."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals:
        raise ValueError(
            "`--set` must be NAME=VALUE, such as ratio=8. "
            f"Received: --set {text}"
        )
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _pattern(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"`--matching` must be a regular expression: {error}. "
            f"Received: --matching {text}"
        ) from error


def _check_out(path, overwrite):
    if path.suffix != ".keras":
        raise ValueError(f"`--out` must end in .keras. Received: --out {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(
            "A file that exists is not overwritten: give another --out, or "
            f"--overwrite. Received: --out {path}"
        )


def _save(model, path, overwrite):
    """Write beside and rename: a reader never sees half a file."""
    beside = path.with_name(f".{uuid.uuid4().hex}.keras")
    try:
        model.save(beside)
        _check_out(path, overwrite)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
