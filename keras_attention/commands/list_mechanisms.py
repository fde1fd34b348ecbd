"""`keras-attention list`: the mechanisms and what they cost."""

import re

import click


@click.command("list")
@click.option(
    "--shape",
    metavar="H,W,C",
    default="56,56,256",
    show_default=True,
    help="Shape of the features that parameters and multiply-adds are for.",
)
def list_mechanisms(shape: str) -> None:
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
    rows = [("name", "layer", "parameters", "multiply-adds", "paper")]
    for found in mechanisms(tuple(map(int, shape.split(",")))):
        counts = (found.parameters, found.multiply_adds)
        rows.append(
            (
                ", ".join(found.names),
                found.layer.__name__,
                *("-" if n is None else f"{n:,}" for n in counts),
                found.paper,
            )
        )
    click.echo(format_table(rows))
    if any("-" in row[2:4] for row in rows):
        click.echo("-: not with its default arguments for this shape")
