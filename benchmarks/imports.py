"""What `import keras_attention` adds to `import keras`, in fresh processes."""

import subprocess
import sys

import numpy as np
from tqdm import tqdm

from benchmarks.goals import Goal
from benchmarks.report import Table
from benchmarks.timing import Spread

TITLE = "Import"
CASES = {
    "keras": "import keras",
    "keras, keras_attention": "import keras, keras_attention",
}
GOALS = (Goal("added, ms", "ms", 50, rows={"imported": "added"}),)


def run(quick: bool = False) -> list[Table]:
    rounds = 3 if quick else 15
    seconds = {name: np.empty(rounds) for name in CASES}
    for name in CASES:
        _import(name)  # Compiled, and read from the disk once.
    for number in tqdm(range(rounds), "imports", leave=False):
        for name in list(CASES)[:: 1 if number % 2 else -1]:
            seconds[name][number] = _import(name)
    first, second = seconds.values()
    table = Table(
        ["imported", "ms"],
        "Seconds of the statement in a fresh process, TensorFlow backend; the "
        "difference is taken round by round.",
    )
    for name in CASES:
        table.add(name, f"{Spread.of(1e3 * seconds[name])}")
    table.add("added", f"{Spread.of(1e3 * (second - first))}")
    return [table]


def _import(name):
    """Seconds that the import takes, of a process of its own."""
    code = (
        "import time; start = time.perf_counter(); "
        f"{CASES[name]}; print(time.perf_counter() - start)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return float(result.stdout.split()[-1])
