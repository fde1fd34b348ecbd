"""Five mixers translate Multi30k in a short run.

The folder of the data is taken from the environment's `MULTI30K`; without it
they are downloaded.
"""

import os

from benchmarks.harness.example import run_example
from benchmarks.harness.report import Table

TITLE = "Translation: five mixers on Multi30k, a short run"
SHORT = ["--sentences", "6000", "--epochs", "4", "--test", "200"]
SHORT += ["--width", "96"]
QUICK = ["--sentences", "200", "--epochs", "1", "--test", "20"]
QUICK += ["--width", "16", "--decode-batch", "10", "--mixers", "lightweight"]


def run(quick: bool = False) -> list[Table]:
    arguments = QUICK if quick else SHORT
    if "MULTI30K" in os.environ:
        arguments = [*arguments, "--data", os.environ["MULTI30K"]]
    (head, *rows), printed = run_example("translate_multi30k", arguments)
    described = next(x for x in printed.splitlines() if "training sent" in x)
    text = (
        "A short run, far from convergence: it shows that all parts work, and "
        f"ranks nothing. {described}; {' '.join(arguments[:8])}."
    )
    return [Table(head, text, rows)]
