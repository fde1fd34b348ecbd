"""`keras-attention benchmark`: speed and memory against other libraries."""

import pathlib
import subprocess

import click

import keras_attention


@click.command()
@click.argument("subjects", metavar="[SUBJECT]...", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes and few rounds.")
@click.pass_context
def benchmark(
    context: click.Context, subjects: tuple[str, ...], quick: bool
) -> None:
    """Measure speed and memory against other libraries, in a checkout.

    This is `make benchmark` there: the benchmarks and the peers they need are
    no part of the installed package. Results go to the checkout's
    benchmarks/RESULTS.md. A wrong SUBJECT lists those that there are.

    Example: keras-attention benchmark gates --quick
    """
    arguments = " ".join([*subjects, *["--quick"] * quick])
    code = subprocess.run(
        ["make", "benchmark", f"BENCHMARK_ARGS={arguments}"],
        cwd=find_checkout(),
    ).returncode
    context.exit(code)


def find_checkout() -> pathlib.Path:
    """Return the folder of the repository: here, or where this file is.

    Raises:
        FileNotFoundError: If there is none.
    """
    package = pathlib.Path(keras_attention.__file__).parent
    for folder in (pathlib.Path.cwd(), package.parent):
        if (folder / "benchmarks" / "__main__.py").is_file() and (
            folder / "keras_attention"
        ).is_dir():
            return folder
    raise FileNotFoundError(
        "The benchmarks are in the repository, not in the installed package. "
        "Go to a checkout of it and type `make benchmark`."
    )
