"""Marvin and Linzen's sentence pairs, as tab-separated text."""

import pathlib
from collections.abc import Iterable

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.suite_files import only_pair
from keras_attention.files.json_text import read_text

Path = str | pathlib.Path
HEADER = ("test case", "grammatical", "ungrammatical")


def read_marvin_linzen(path: Path) -> list[ContrastiveItem]:
    """Read pairs from a tab-separated file.

    The form is that of the authors' `sample_sents.txt`: a header, `test
    case`, `grammatical` and `ungrammatical`, and a pair a line. A test case
    such as `prep_anim--sing_MS_MV_plur_ES` is split at its `--`: `paradigm`
    and `condition` of the item's metadata.

    The authors' full templates are pickles. A pickle runs whatever code it
    holds when it is loaded, so this library reads none: write them out as
    text with the authors' own code.

    Args:
        path: Path of the file.

    Raises:
        ValueError: naming file and line, for another header or number of
            columns, or a pickle.

    Reference:
        Marvin and Linzen, Targeted Syntactic Evaluation of Language Models,
        EMNLP 2018, arXiv:1808.09031.
    """
    path = pathlib.Path(path)
    # A pickle starts with its protocol, 0x80 from version 2 on, or "(" or "c".
    if path.suffix in (".pickle", ".pkl") or path.read_bytes()[:1] == b"\x80":
        raise ValueError(
            f"{path}: Pickles are not read, since they may run any code. "
            f"Write the pairs to a text file with the columns {HEADER}, "
            "separated by tabs."
        )
    header, *lines = read_text(path).splitlines() or [""]
    if tuple(header.split("\t")) != HEADER:
        raise ValueError(
            f"{path}:1: The first line must name the columns {HEADER}, "
            f"separated by tabs. Received: {header!r}"
        )
    return [
        _item(line, f"{path}:{number}")
        for number, line in enumerate(lines, 2)
        if line.strip()
    ]


def write_marvin_linzen(path: Path, items: Iterable[ContrastiveItem]) -> None:
    """Write items of one contrastive text each; see `read_marvin_linzen`.

    Of the metadata only `paradigm` and `condition` are kept.

    Raises:
        ValueError: for an item with a source, other than one contrastive
            text, or a tab in a text.
    """
    lines = ["\t".join(HEADER)]
    for item in items:
        names = (item.metadata.get(key) for key in ("paradigm", "condition"))
        case = "--".join(str(name) for name in names if name is not None)
        columns = (case, item.reference, only_pair(item, "Marvin-Linzen"))
        if any(c in text for text in columns for c in "\t\n"):
            raise ValueError(
                f"{item.prefix}A text must have no tab and no line break. "
                f"Received: {item}"
            )
        lines.append("\t".join(columns))
    pathlib.Path(path).write_text("\n".join(lines) + "\n", "utf-8")


def _item(line, origin):
    columns = line.split("\t")
    if len(columns) != len(HEADER):
        raise ValueError(
            f"{origin}: A line must have {len(HEADER)} columns, separated by "
            f"tabs. Received: {len(columns)} in {line!r}"
        )
    case, good, bad = columns
    paradigm, _, condition = case.partition("--")
    metadata = {"paradigm": paradigm}
    if condition:
        metadata["condition"] = condition
    return ContrastiveItem(good, [bad], metadata=metadata, origin=origin)
