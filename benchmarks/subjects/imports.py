"""What `import keras_attention` adds to `import keras`, in fresh processes."""

import os
import subprocess
import sys

import numpy as np
from tqdm import tqdm

from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Spread

TITLE = "Import"
MODULES = ("keras", "keras_attention")
CODE = """
import time
for name in {modules}:
    start = time.perf_counter()
    __import__(name)
    print(time.perf_counter() - start)
"""
GOALS = (
    Goal("added, ms", "ms", 50, rows={"imported": "keras_attention, after it"}),
)


def run(quick: bool = False) -> list[Table]:
    rounds = 1 if quick else 15
    _import()  # Compiled to bytecode, and read from the disk once.
    seconds = np.array(
        [_import() for _ in tqdm(range(rounds), "imports", leave=False)]
    )
    table = Table(
        ["imported", "ms"],
        "Time of the statements, one after the other in a fresh process each "
        "time, TensorFlow backend.",
    )
    names = ("keras", "keras_attention, after it")
    for name, column in zip(names, seconds.T, strict=True):
        table.add(name, f"{Spread.of(1e3 * column)}")
    return [table]


def _import():
    """Seconds that each import takes, of a process of its own.

    It may write bytecode even where the environment forbids it: an installed
    package has it, and compiling takes longer than all else here.
    """
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(modules=MODULES)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    return [float(line) for line in result.stdout.split()[-len(MODULES) :]]
