"""BLiMP's agreement sets, scored by a tiny model of Multi30k's captions.

The folders are taken from the environment's `BLIMP` and `MULTI30K`; without
the second the captions are downloaded.
"""

import os
import tempfile

from benchmarks.harness.example import DataMissing
from benchmarks.harness.example import run_example
from benchmarks.harness.report import Table

TITLE = "BLiMP: six agreement sets and a small language model"
SHORT = ["--sentences", "20000", "--epochs", "3"]
QUICK = ["--sentences", "4000", "--epochs", "1", "--width", "16"]


def run(quick: bool = False) -> list[Table]:
    if "BLIMP" not in os.environ:
        raise DataMissing(
            "BLiMP's files are not downloaded: set BLIMP to their folder"
        )
    arguments = [*(QUICK if quick else SHORT), "--blimp", os.environ["BLIMP"]]
    if "MULTI30K" in os.environ:
        arguments += ["--multi30k", os.environ["MULTI30K"]]
    with tempfile.TemporaryDirectory() as folder:
        found, printed = run_example(
            "score_blimp", [*arguments, "--verbose", "0", "--out", folder]
        )
    lines = printed.splitlines()
    described = next(x for x in lines if "tokens, " in x)
    table = Table(
        ["set", "all items", "items whose words it knows"],
        f"A tiny model of captions alone: {described}, {lines[-1]}.",
    )
    known = found["skip"].by("paradigm")
    for name, accuracy in found["keep"].by("paradigm").items():
        table.add(name, accuracy, known.get(name, "none"))
    table.add("all", found["keep"].accuracy, found["skip"].accuracy)
    return [table]
