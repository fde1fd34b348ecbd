import json
import os
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import keras_attention
from keras_attention.cli import cli
from keras_attention.cli import in_shell_terms
from keras_attention.cli import main
from keras_attention.layers.registry import ATTENTION_LAYERS


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def example(name):
    """The example of a command's help, as it is typed."""
    text = run(name, "--help").output
    found = re.search(r"Example: (keras-attention .+?)\n\n", text, re.S)
    assert found, f"{name} has no example"
    line = re.sub(r"\\?\n\s*", " ", found[1])
    program, *arguments = shlex.split(line)
    assert program == "keras-attention"
    return arguments


@pytest.mark.parametrize("name", cli.commands)
def test_help_of_every_command_has_an_example_that_is_understood(name):
    """Every option of the example exists and every value is of its type."""
    assert name in run("--help").output
    typed, *arguments = example(name)
    assert typed == name
    command = cli.commands[name]
    assert command.callback is not None
    context = click.Context(cli)
    command.make_context(name, arguments, parent=context)


def test_list_shows_every_name_with_paper_and_cost():
    result = run("list")
    assert result.exit_code == 0, result.output
    row = next(r for r in result.output.splitlines() if " SqueezeExcite " in r)
    assert "squeeze_excite, se" in row and "arXiv:1709.01507" in row
    assert "8,464" in row and "8,192" in row and "equation" not in row
    cbam = next(r for r in result.output.splitlines() if " CBAM " in r)
    assert "8,564" in cbam  # Moving statistics are not counted.
    listed = set(re.findall(r"[a-z0-9_]+(?=,|  )", result.output))
    assert set(ATTENTION_LAYERS) <= listed


@pytest.mark.slow
def test_list_for_another_shape():
    result = run("list", "--shape", "7,7,32")
    row = next(r for r in result.output.splitlines() if " SqueezeExcite " in r)
    assert " 162 " in row and " 128 " in row
    too_few = run("list", "--shape", "7,7,8")
    assert "-: not with its default arguments" in too_few.output
    wrong = run("list", "--shape", "7x7")
    assert wrong.exit_code == 1 and "such as 56,56,256" in wrong.output


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_takes_debug_before_and_after(name):
    assert "--debug" in run(name, "--help").output
    command = cli.commands[name]
    assert [p.name for p in command.params].count("debug") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug", "list", "--shape", "7x7"],
        ["list", "--shape", "7x7", "--debug"],
    ],
)
def test_debug_lets_the_error_through(monkeypatch, arguments):
    """Python shows its trace: see `test_the_module_runs_a_command`."""
    monkeypatch.setattr(sys, "argv", ["keras-attention", *arguments])
    with pytest.raises(ValueError, match="`--shape` must be"):
        main()


def test_errors_are_one_line_with_the_remedy():
    result = run("list", "--shape", "7x7")
    assert result.exit_code == 1
    first, second = result.output.splitlines()
    assert first.startswith("Error: `--shape` must be")
    assert second == "(--debug shows the trace)"


HEAVY = ("jax", "keras", "numpy", "tensorflow", "torch", "PIL")


def entry(*arguments, environment=None):
    """The installed command, and which heavy modules it has imported."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print([m for m in "
        f"{HEAVY} if m in sys.modules], file=sys.stderr))\n"
        "from keras_attention_cli import main\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["--nothing"], ["dmo"]]
    + [[name, "--help"] for name in cli.commands],
    ids=" ".join,
)
def test_help_and_version_import_nothing_heavy(arguments):
    result = entry(*arguments)
    assert result.returncode == (0 if arguments[-1] in OPTIONS else 2)
    assert result.stderr.splitlines()[-1] == "[]"
    if arguments == ["--version"]:
        version = keras_attention.__version__
        assert result.stdout == f"keras-attention, version {version}\n"


OPTIONS = ("--help", "--version")


@pytest.mark.parametrize(
    "typed", [["-m", "keras_attention"], ["-mkeras_attention"]]
)
def test_the_module_imports_nothing_heavy_for_help(typed):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *typed, "--help"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0
    assert "Commands:" in result.stdout
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in result.stderr.splitlines()
    }
    assert not imported & set(HEAVY)


@pytest.mark.slow
def test_the_module_runs_a_command():
    """And `--debug` shows the trace of its error."""
    typed = ["list", "--shape", "7x7", "--debug"]
    result = subprocess.run(
        [sys.executable, "-m", "keras_attention", *typed],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ValueError" in result.stderr


def test_completion_imports_nothing_heavy():
    typed = {
        "_KERAS_ATTENTION_COMPLETE": "bash_complete",
        "COMP_WORDS": "keras-attention tra",
        "COMP_CWORD": "1",
    }
    result = entry(environment=typed)
    assert "transfer" in result.stdout
    assert result.stderr.splitlines()[-1] == "[]"


def test_a_command_has_all_of_the_library_and_no_log():
    code = (
        "import sys\n"
        "from keras_attention_cli import main\n"
        "sys.argv = ['keras-attention', 'list', '--shape', '7x7']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert end.code == 1\n"
        "import keras, keras_attention\n"
        "name = 'keras_attention>SqueezeExcite'\n"
        "layer = keras.saving.get_registered_object(name)\n"
        "assert layer is keras_attention.SqueezeExcite\n"
        "assert keras_attention.__version__\n"
    )
    environment = {**os.environ}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    first, second = result.stderr.splitlines()
    assert first.startswith("Error: ") and "--debug" in second


def test_errors_name_options():
    """Python's names of arguments become those of the command's options."""
    command = cli.commands["transfer"]
    for message, expected in (
        ("`beta` must be >= 0. Received: beta=-1", "--beta"),
        ("`pair_weights` must. Received: pair_weights=[1]", "--pair-weight"),
        ("Pass `overwrite=True`.", "--overwrite"),
        ("Received: batch_size=0", "--batch-size 0"),
    ):
        found = in_shell_terms(message, command)
        assert expected in found and not re.search(r"\w=", found), found
    words = "`walk_layers(model)` lists all."
    assert in_shell_terms(words, command) == (
        "`keras-attention layers MODEL.keras` lists all."
    )
    export = cli.commands["export"]
    for message, expected in (
        ("give `verify=False`", "give `--no-verify`"),
        ("Received: version=3 in x", "Received: --version 3 in x"),
        ("Received: data_format='a'", "Received: data_format='a'"),
        (
            "Give `image_size=(height, width)`.",
            "Give `--image-size height,width`.",
        ),
        ("Received: image_size=(0, 8)", "Received: --image-size 0,8"),
        ("Received: image_size=None for x", "Received: none for x"),
        (
            "`directory` must. Received: directory='a'",
            "DIR must. Received: DIR 'a'",
        ),
    ):
        assert in_shell_terms(message, export) == expected


def test_unknown_command_offers_the_nearest():
    result = run("dmo")
    assert result.exit_code == 2
    assert "Did you mean 'demo'" in result.output


def test_unknown_option_is_a_usage_error():
    result = run("list", "--shap", "7,7,32")
    assert result.exit_code == 2 and "--shape" in result.output


def test_module_runs_as_a_command():
    result = subprocess.run(
        [sys.executable, "-m", "keras_attention", "--help"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "demo" in result.stdout


def test_completion_scripts_are_clicks():
    """What the help says to type gives the shell a script."""
    for shell, words in (("bash", "COMPREPLY"), ("fish", "complete")):
        result = CliRunner().invoke(
            cli,
            prog_name="keras-attention",
            env={"_KERAS_ATTENTION_COMPLETE": f"{shell}_source"},
        )
        assert words in result.output


def test_list_as_json():
    result = run("list", "--json")
    found = {one["layer"]: one for one in json.loads(result.output)}
    assert found["SqueezeExcite"]["parameters"] == 8464
    assert found["SqueezeExcite"]["names"] == ["squeeze_excite", "se"]
    assert found["SqueezeExcite"]["multiply_adds"] == 8192


def test_benchmark_is_that_of_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "keras_attention").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text("")
    (tmp_path / "Makefile").write_text(
        "benchmark:\n\t@echo $(BENCHMARK_ARGS) > seen\n\t@false\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("benchmark", "gates", "--quick")
    assert result.exit_code == 2  # make's own
    assert (tmp_path / "seen").read_text() == "gates --quick\n"


def test_benchmark_without_a_checkout_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "site-packages" / "keras_attention" / "__init__.py"
    monkeypatch.setattr(keras_attention, "__file__", str(installed))
    result = run("benchmark")
    assert result.exit_code == 1
    assert "make benchmark" in result.output
