"""`keras-attention sites`: the insertion points of a model."""

import dataclasses

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import SITE_KINDS
from keras_attention.commands.load import load_model


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.option("--kind", type=SITE_KINDS, help="Only the points of this kind.")
@IMPORTED
@JSON
def sites(
    model: str, kind: str | None, imported: tuple[str, ...], as_json: bool
) -> None:
    """List the insertion points of a model: where attention may be added.

    Example: keras-attention sites model.keras --kind stage
    """
    from keras_attention.surgery import AttentionSites
    from keras_attention.surgery import attention_sites

    found = AttentionSites(
        site
        for site in attention_sites(load_model(model, imported))
        if kind in (None, site.kind)
    )
    if as_json:
        echo_json([dataclasses.asdict(site) for site in found])
    else:
        click.echo(found)
