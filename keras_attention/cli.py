"""The command line: `keras-attention COMMAND`.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

import sys
from collections.abc import Callable
from typing import Any

try:
    import click
except ImportError:
    sys.exit(
        "The command line needs click, which is not installed: "
        "pip install 'keras-attention-layers[cli]'"
    )

from keras_attention import __version__
from keras_attention.commands.evaluate import evaluate
from keras_attention.commands.export import export
from keras_attention.commands.insert import insert
from keras_attention.commands.list_mechanisms import list_mechanisms
from keras_attention.commands.maps import maps
from keras_attention.commands.predict import predict
from keras_attention.commands.sites import sites
from keras_attention.commands.view import view
from keras_attention.validation import nearest

# What a person can mend: shown in one line, without a trace.
EXPECTED_ERRORS = (
    ConnectionError,
    ImportError,
    OSError,
    TypeError,
    ValueError,
)


class Group(click.Group):
    """Commands whose errors are one line with the remedy."""

    def get_command(self, context: click.Context, name: str) -> Any:
        command = super().get_command(context, name)
        if command is None:
            context.fail(
                f"No such command '{name}'.{nearest(name, self.commands)}"
            )
        return command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EXPECTED_ERRORS as error:
            if context.params.get("debug"):
                raise
            raise click.ClickException(
                f"{error}\n(`keras-attention --debug ...` shows the trace)"
            ) from error


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the trace of an error.")
def cli(debug: bool) -> None:
    """Attention mechanisms for Keras models."""


@cli.command()
@click.option(
    "--dataset",
    type=click.Choice(["digits", "fashion-mnist", "cifar10"]),
    default="digits",
    show_default=True,
    help="Real images; digits come with scikit-learn.",
)
@click.option("--data", metavar="PATH", help="Where the data set's files are.")
@click.option(
    "--out",
    metavar="DIR",
    default="demo-output",
    show_default=True,
    help="Folder to write to.",
)
@click.option("--epochs", type=int, help="Epochs of each training.")
@click.option(
    "--seeds",
    type=int,
    default=2,
    show_default=True,
    help="How often everything is trained.",
)
@click.option("--fast", is_flag=True, help="The smallest setting: seconds.")
@click.option(
    "--overwrite", is_flag=True, help="Replace an earlier run's results."
)
def demo(**options: Any) -> None:
    """Train, teach, save, load, export, ask and look, on real images.

    Example: keras-attention demo --dataset cifar10 --data cifar10.npz
    """
    from keras_attention.demo import run_demo

    run_demo(**options, echo=click.echo)


COMMANDS = (
    evaluate,
    export,
    insert,
    list_mechanisms,
    maps,
    predict,
    sites,
    view,
)
for command in COMMANDS:
    cli.add_command(command)


def main(run: Callable[[], Any] = cli) -> None:
    """Run the command that was typed."""
    run()
