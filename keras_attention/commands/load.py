"""What the commands that take a saved model share."""

import importlib
import os
import pathlib
from typing import Any

import click

HDF5 = b"\x89HDF\r\n\x1a\n"
SITE_KINDS = click.Choice(["residual", "stage", "conv", "skip"])
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
    from keras_attention.files import check_keras_file

    # The networks of this package register themselves when they are imported.
    for name in ("keras_attention.models", *imported):
        importlib.import_module(name)
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"There is no such model: {path}")
    if pathlib.Path(path).is_dir():
        raise ValueError(
            "The model must be a .keras file. An export has no layers to read: "
            "give the .keras file that it was exported from, or run it by "
            f"`keras-attention predict`. Received: {path}, a folder"
        )
    _refuse_hdf5(path)
    try:
        check_keras_file(path)
    except ValueError as error:
        raise ValueError(f"The model cannot be loaded: {error}") from error
    try:
        return pixels.load_model(path, compile=False)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"The model cannot be loaded: {path}: {reason} A model with "
            "custom layers needs --import MODULE, the module that registers "
            "them."
        ) from error


def _refuse_hdf5(path):
    """Keras' reader of legacy models runs what they hold, unasked."""
    is_file = pathlib.Path(path).is_file()
    with open(path if is_file else os.devnull, "rb") as file:
        if file.read(8) != HDF5:
            return
    raise ValueError(
        f"{path}: Models in HDF5 are not loaded here, since Keras' reader of "
        "that format has no safe mode. If you trust the file, load it in "
        "Python by keras.saving.load_model and save it as .keras"
    )
