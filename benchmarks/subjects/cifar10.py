"""Attention transfer on CIFAR-10, as the example trains it, in a short run.

The file of the data is taken from the environment's `CIFAR10`; without it they
are downloaded. What the example has trained is taken from
`attention_transfer_cifar10/`, and an interrupted run goes on from there.
"""

import os
import tempfile

from benchmarks.harness.example import run_example
from benchmarks.harness.report import Table

TITLE = "Attention transfer on CIFAR-10, a short run"
SHORT = ["--epochs", "4", "--subset", "5000", "--seeds", "1", "--plain"]
SHORT += ["--pairs", "16-1:16-2", "--maps"]
QUICK = ["--epochs", "1", "--subset", "128", "--seeds", "1", "--plain"]
QUICK += ["--pairs", "10-1:10-1"]


def run(quick: bool = False) -> list[Table]:
    setting = QUICK if quick else SHORT
    arguments = [*setting]
    if "CIFAR10" in os.environ:
        arguments += ["--data", os.environ["CIFAR10"]]
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            arguments += ["--folder", folder]
        found, printed = run_example("attention_transfer_cifar10", arguments)
    took = printed.splitlines()[-1]
    return [
        Table(head, f"{title}; {' '.join(setting)}. {took}.", rows)
        for title, (head, *rows) in found.items()
    ]
