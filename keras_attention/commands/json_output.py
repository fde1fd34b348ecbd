"""What the commands share whose result a program may read."""

import json
from typing import Any

import click

JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only JSON, for scripts.",
)


def echo_json(value: Any) -> None:
    """Print a value as JSON; tuples become lists."""
    click.echo(json.dumps(value, indent=2))
