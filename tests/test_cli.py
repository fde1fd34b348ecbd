import subprocess
import sys

from click.testing import CliRunner

from keras_attention.cli import cli


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def test_help_of_every_command_has_an_example():
    result = run("--help")
    assert result.exit_code == 0
    for name, command in cli.commands.items():
        assert name in result.output
        text = run(name, "--help")
        assert text.exit_code == 0
        assert f"Example: keras-attention {name}" in text.output
        assert command.callback is not None


def test_unknown_command_offers_the_nearest():
    result = run("dmo")
    assert result.exit_code == 2
    assert "Did you mean 'demo'" in result.output


def test_module_runs_as_a_command():
    result = subprocess.run(
        [sys.executable, "-m", "keras_attention", "--help"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "demo" in result.stdout
