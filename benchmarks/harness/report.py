"""The tables of RESULTS.md: one section a subject, each replaced alone."""

import datetime
import os
import pathlib
import platform
import re
from dataclasses import dataclass
from dataclasses import field
from importlib import metadata

RESULTS = pathlib.Path(__file__).parents[1] / "RESULTS.md"
HEAD = """# Results

Ratios of medians' rounds: every case runs once a round, in changing order;
the median of the rounds' ratios is given with its quartiles. Absolute times
are of one machine on one day and only say what a ratio is a ratio of.

All processes, floors and peers among them, keep the memory of large tensors
(`benchmarks/harness/worker.py` says how); where peak memory is measured they
do not.
"""
VERSIONS = (
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "keras-cv",
    "keras-cv-attention-models",
    "tf-keras",
    "torch",
    "numpy",
)


@dataclass
class Table:
    """A table of strings under a line of text."""

    columns: list[str]
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        self.rows.append([str(cell) for cell in cells])

    def __str__(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.text}\n\n{table}".strip()


def write_section(
    title: str, command: str, tables: list[Table], path=RESULTS
) -> None:
    """Put a section into the file, in the place of one of its title.

    The text before the sections becomes `HEAD`.
    """
    body = "\n\n".join(str(table) for table in tables)
    section = (
        f"## {title}\n\n`{command}` · {datetime.date.today()} · {machine()}"
        f"\n\n{body}\n"
    )
    text = path.read_text() if path.exists() else ""
    _, *parts = re.split(r"(?m)^(?=## )", text)
    sections = {part.split("\n")[0]: part for part in parts}
    sections[f"## {title}"] = section
    whole = "\n".join(map(_close, [HEAD, *sections.values()]))
    temporary = path.with_suffix(".writing")
    temporary.write_text(whole)
    os.replace(temporary, path)


def machine() -> str:
    """The hardware and the versions, in a line."""
    versions = []
    for name in VERSIONS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{_processor()}, {os.cpu_count()} cores · Python "
        f"{platform.python_version()} · {' · '.join(versions)}"
    )


def _processor():
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(
            map(str.strip, line.split(":", 1))
            for line in info.read_text().splitlines()
            if ":" in line
        )
        if "model name" in lines:
            # What decides which of two ways is the faster one.
            wide = "avx512f" in lines.get("flags", "").split()
            return lines["model name"] + (" with AVX-512" if wide else "")
    return platform.processor() or platform.machine()


def _close(section):
    return section.strip() + "\n"
