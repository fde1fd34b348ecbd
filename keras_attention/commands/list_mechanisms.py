"""`keras-attention list`: the mechanisms and what they cost."""

import re

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json


@click.command("list")
@click.option(
    "--shape",
    metavar="H,W,C",
    default="56,56,256",
    show_default=True,
    help="Shape of the features that parameters and multiply-adds are for.",
)
@JSON
def list_mechanisms(shape: str, as_json: bool) -> None:
    """List the mechanisms with their paper, parameters and multiply-adds.

    Example: keras-attention list --shape 14,14,1024
    """
    from keras_attention.catalogue import mechanisms
    from keras_attention.surgery.attention_sites import format_table

    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)+", shape):
        raise ValueError(
            "`--shape` must be positive integers with commas between, such "
            f"as 56,56,256. Received: --shape {shape}"
        )
    found = mechanisms(tuple(map(int, shape.split(","))))
    if as_json:
        named = [vars(one) | {"layer": one.layer.__name__} for one in found]
        echo_json(named)
        return
    rows = [("name", "layer", "parameters", "multiply-adds", "paper")]
    for one in found:
        counts = (one.parameters, one.multiply_adds)
        rows.append(
            (
                ", ".join(one.names),
                one.layer.__name__,
                *("-" if n is None else f"{n:,}" for n in counts),
                one.paper,
            )
        )
    click.echo(format_table(rows))
    if any("-" in row[2:4] for row in rows):
        click.echo("-: not with its default arguments for this shape")
