"""What the commands that take a saved model share."""

import importlib
import pathlib
from typing import Any

import click

SITE_KINDS = click.Choice(["residual", "stage", "conv"])
IMPORTED = click.option(
    "--import",
    "imported",
    metavar="MODULE",
    multiple=True,
    help="Module that registers the model's custom layers; may be repeated.",
)


def load_model(path: str, imported: tuple[str, ...]) -> Any:
    """Load a model; say in one line what is wrong with its file."""
    from keras_attention import pixels

    # The networks of this package register themselves when they are imported.
    for name in ("keras_attention.models", *imported):
        importlib.import_module(name)
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"There is no such model: {path}")
    try:
        return pixels.load_model(path, compile=False)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"The model cannot be loaded: {path}: {reason} A model with "
            "custom layers needs --import MODULE, the module that registers "
            "them; a Lambda is not loaded."
        ) from error
