"""`keras-attention insert`: attention into a saved model."""

import dataclasses
import functools
import inspect
import json
import pathlib
import re

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import SITE_KINDS
from keras_attention.commands.load import load_model
from keras_attention.commands.save import check_out
from keras_attention.commands.save import save_model
from keras_attention.validation import nearest


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.option(
    "--attention", required=True, help="A name from `list`, such as cbam."
)
@click.option(
    "--at", type=SITE_KINDS, help="Kind of point.  [default: residual]"
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
    help="Argument of the attention layer, such as ratio=8; may be repeated.",
)
@click.option(
    "--preserve-outputs",
    is_flag=True,
    help="Start as the identity: outputs are unchanged before training.",
)
@click.option("--out", metavar="NEW.keras", required=True)
@click.option("--overwrite", is_flag=True, help="Replace NEW.keras.")
@IMPORTED
@JSON
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
    as_json: bool,
) -> None:
    """Insert attention into a saved model and save the result.

    Example: keras-attention insert model.keras --attention cbam
    --at residual --preserve-outputs --out new.keras
    """
    from keras_attention.layers.registry import find_attention
    from keras_attention.pixels import find_pixel_range
    from keras_attention.surgery import insert_attention
    from keras_attention.surgery import insertion_report

    if sum(map(bool, (at, layers, matching))) > 1:
        raise ValueError(
            "Give the insertion points by one of --at, --layer and --matching. "
            f"Received: at={at}, layer={list(layers)}, matching={matching}"
        )
    path = pathlib.Path(out)
    check_out(path, overwrite)
    made = find_attention(attention)
    if settings:
        arguments = dict(map(_setting, settings))
        _check_settings(made, arguments)
        made = functools.partial(made, **arguments)
    original = load_model(model, imported)
    place = at or list(layers) or "residual"
    try:
        new = insert_attention(
            original,
            made,
            _pattern(matching) if matching else place,
            preserve_outputs,
        )
    except (TypeError, ValueError) as error:
        typed = "--matching" if matching else "--layer" if layers else "--at"
        message = str(error).replace("`at`", f"`{typed}`")
        shown = f"at=re.compile({matching!r})"
        message = message.replace(shown, f"{typed} {matching}")
        raise ValueError(message) from error
    save_model(new, path, overwrite, find_pixel_range(original))
    report = insertion_report(original, new)
    if as_json:
        echo_json({**dataclasses.asdict(report), "out": out})
        return
    click.echo(report)
    click.echo(f"Written: {path}")


def _setting(text):
    """`("ratio", 8)` of `"ratio=8"`; anything but JSON is a string."""
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


def _check_settings(layer, arguments):
    """Refuse an argument that the layer does not have; offer the nearest."""
    known = [
        name
        for kind in layer.__mro__
        if "__init__" in vars(kind) and kind.__module__.startswith("keras_a")
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        or parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    known = list(dict.fromkeys([*known, "dtype", "trainable"]))
    for name, value in arguments.items():
        if name not in known:
            raise ValueError(
                f"`--set` must name an argument of {layer.__name__}: "
                f"{', '.join(known)}. Received: --set {name}={value}."
                f"{nearest(name, known)}"
            )


def _pattern(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"`--matching` must be a regular expression: {error}. "
            f"Received: --matching {text}"
        ) from error
