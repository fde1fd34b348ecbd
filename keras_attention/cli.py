"""The command line: `keras-attention COMMAND`.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

import functools
import re
import sys
from typing import Any

try:
    import click
except ImportError:
    sys.exit(
        "The command line needs click, which is not installed: "
        "pip install 'keras-attention-layers[cli]'"
    )

from keras_attention.commands.benchmark import benchmark
from keras_attention.commands.demo import demo
from keras_attention.commands.evaluate import evaluate
from keras_attention.commands.export import export
from keras_attention.commands.insert import insert
from keras_attention.commands.inspect import inspect
from keras_attention.commands.layers import layers
from keras_attention.commands.library import import_library
from keras_attention.commands.list_mechanisms import list_mechanisms
from keras_attention.commands.maps import maps
from keras_attention.commands.predict import predict
from keras_attention.commands.sites import sites
from keras_attention.commands.transfer import transfer
from keras_attention.commands.view import view
from keras_attention.validation import nearest
from keras_attention.version import __version__

# What a person can mend: shown in one line, without a trace.
EXPECTED_ERRORS = (
    ConnectionError,
    ImportError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


DEBUG = "keras_attention.debug"
# What a message says to call, and the command that does it.
COMMANDS = {
    "`walk_layers(model)`": "`keras-attention layers MODEL.keras`",
    "`attention_sites(model)`": "`keras-attention sites MODEL.keras`",
}


def note_debug(
    context: click.Context, parameter: click.Parameter, value: bool
) -> None:
    """Note that `--debug` was given, before the command or after it."""
    if value:
        context.meta[DEBUG] = True


def debug_option() -> click.Option:
    """`--debug`, which every command takes."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=note_debug,
        help="Show the trace of an error, and the log of TensorFlow.",
    )


class Group(click.Group):
    """Commands whose errors are one line with the remedy."""

    def add_command(
        self, command: click.Command, name: str | None = None
    ) -> None:
        command.params.append(debug_option())
        if command.callback is not None:
            command.callback = _with_library(command.callback)
        super().add_command(command, name)

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
            if context.meta.get(DEBUG):
                raise
            name = context.invoked_subcommand
            message = _message(error)
            if name in self.commands:
                message = in_shell_terms(message, self.commands[name])
            raise click.ClickException(
                f"{message}\n(--debug shows the trace)"
            ) from error


def _with_library(callback):
    """A command's function, which has the library imported before it runs."""

    @functools.wraps(callback)
    def run(*args, **kwargs):
        debug = click.get_current_context().meta.get(DEBUG, False)
        import_library(debug)
        return callback(*args, **kwargs)

    return run


def _message(error):
    """What an error says; the system's errors without their numbers."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    # Keras prints the values of the arguments after its message.
    message = str(error).split("\n\nArguments received by")[0]
    return message or type(error).__name__


def in_shell_terms(message: str, command: click.Command) -> str:
    """Replace the names of Python's arguments by those of a command's options.

    Args:
        message: An error of the library, such as "`beta` must be … Received:
            beta=-1".
        command: The command that was typed.
    """
    for call, typed in COMMANDS.items():
        message = message.replace(call, typed)
    for parameter in command.params:
        if not isinstance(parameter, click.Option):
            metavar = (parameter.metavar or "").strip("[].")
            message = re.sub(rf"`{parameter.name}`", metavar, message)
            message = re.sub(
                rf"(?<![\w.-]){parameter.name}=(?=\S)", f"{metavar} ", message
            )
            continue
        option = max(parameter.opts, key=len)
        name = option.lstrip("-").replace("-", "_")
        for known in {name, f"{name}s", parameter.name}:
            message = re.sub(rf"`{known}`", f"`{option}`", message)
            message = re.sub(
                rf"`?(?<![\w-]){known}=True\b`?", f"`{option}`", message
            )
            message = re.sub(
                rf"(?<![\w.-]){known}=(?=[^\s=])", f"{option} ", message
            )
        message = message.replace(f"Received: {option} None", "Received: none")
        # The shell's H,W for Python's (height, width).
        message = re.sub(
            rf"({option}) \(([^()]*)\)",
            lambda found: f"{found[1]} {found[2].replace(' ', '')}",
            message,
        )
        if name.startswith("no_"):
            message = re.sub(
                rf"`?(?<![\w-]){name[3:]}=False\b`?", f"`{option}`", message
            )
    return message


@click.group(
    cls=Group,
    params=[debug_option()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="keras-attention")
def cli() -> None:
    """Attention mechanisms for Keras models.

    Exit codes: 0 all went well; 1 an error, said in one line with what to do;
    2 a command line that is not understood.

    \b
    Completion of what you type, in bash (zsh, fish: the same with its name):
      eval "$(_KERAS_ATTENTION_COMPLETE=bash_source keras-attention)"

    \b
    Example: keras-attention list --shape 14,14,1024
    """


for command in (
    benchmark,
    demo,
    evaluate,
    export,
    insert,
    inspect,
    layers,
    list_mechanisms,
    maps,
    predict,
    sites,
    transfer,
    view,
):
    cli.add_command(command)


def main() -> None:
    """Run the command that was typed."""
    cli(prog_name="keras-attention")
