"""Runs the benchmarks; writes `benchmarks/RESULTS.md` and its figures.

Data at hand is found by the environment: BLIMP and MULTI30K are folders,
CIFAR10 is a file. The last two are otherwise downloaded; without the first,
its subject is left out.
"""

import argparse
import importlib
import os
import sys
import traceback

from tqdm import tqdm

from benchmarks.harness.example import DataMissing
from benchmarks.harness.goals import verdicts
from benchmarks.harness.report import write_section
from benchmarks.harness.worker import KEEP_MEMORY

SUBJECTS = (
    "faults",
    "imports",
    "gates",
    "pooling_gates",
    "image_layers",
    "inserted",
    "attention",
    "attention_memory",
    "convolutions",
    "recurrences",
    "precision",
    "transfer",
    "pretrained",
    "cifar10",
    "shards",
    "soak",
    "why_self_attention",
    "translation",
    "blimp",
)
# On another backend than TensorFlow, and on a GPU.
BACKEND_SUBJECTS = ("backend_attention", "backend_layers", "c_kernel")
# Their smallest runs train for most of a minute, and `make test-slow` has them.
QUICK_LEAVES_OUT = ("pretrained", "cifar10")


def main():
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few rounds"
    )
    options = parser.parse_args()
    everything = (*SUBJECTS, *BACKEND_SUBJECTS)
    unknown = set(options.subjects) - set(everything)
    if unknown:
        parser.error(
            f"unknown subjects: {', '.join(sorted(unknown))}; "
            f"there are {', '.join(everything)}"
        )
    if not os.environ.items() >= KEEP_MEMORY.items():
        # malloc reads them when a process starts.
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **KEEP_MEMORY})
    names = options.subjects or [
        name
        for name in SUBJECTS
        if not (options.quick and name in QUICK_LEAVES_OUT)
    ]
    failed = []
    for name in tqdm(names, "subjects"):
        try:
            run(name, options.quick)
        except DataMissing as error:
            tqdm.write(f"{name} is left out. {error}")
            if name in options.subjects:
                failed.append(name)
        except Exception:
            # What took an hour before it is not lost, nor what comes after.
            tqdm.write(f"{name}:\n{traceback.format_exc()}")
            failed.append(name)
    if not options.quick:
        importlib.import_module("benchmarks.harness.figures").main()
    if failed:
        sys.exit(f"These subjects failed, for the reasons above: {failed}")


def run(name, quick):
    """Run one subject, and print its tables or put them into the results."""
    subject = importlib.import_module(f"benchmarks.subjects.{name}")
    tables = subject.run(quick=quick)
    if quick:
        tqdm.write("\n\n".join(map(str, tables)))
        return
    if goals := getattr(subject, "GOALS", ()):
        note = getattr(subject, "NOTE", "")
        tables.append(verdicts(goals, tables, note))
    write_section(subject.TITLE, f"python -m benchmarks {name}", tables)


if __name__ == "__main__":
    main()
