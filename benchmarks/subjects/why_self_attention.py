"""Five mixers on the two generated suites, as the example trains them.

What the example has trained is taken from `why-self-attention/`, and an
interrupted run goes on from there.
"""

import tempfile

from benchmarks.harness.example import run_example
from benchmarks.harness.report import Table

TITLE = "Why self-attention: five mixers on two generated suites"
TEXT = (
    "{suite}: accuracy in %, mean and 95% interval over seeds. Synthetic; "
    "`examples/why_self_attention.py` says how it is made. Training took "
    "{minutes}."
)
QUICK = ["--seeds", "1", "--steps", "2", "--rates", "0.01"]
QUICK += ["--mixers", "attention", "--sentences", "1000"]
QUICK += ["--suites", "senses"]


def run(quick: bool = False) -> list[Table]:
    arguments = ["--fast"]
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            arguments += [*QUICK, "--out", folder]
        found, printed = run_example("why_self_attention", arguments)
    minutes = next(x for x in printed.splitlines() if "min of" in x)
    return [
        Table(head, TEXT.format(suite=suite, minutes=minutes), rows)
        for suite, (head, *rows) in found.items()
    ]
