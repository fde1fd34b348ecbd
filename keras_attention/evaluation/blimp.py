"""BLiMP's minimal pairs: files of one JSON object a line."""

import json
import pathlib
from collections.abc import Iterable

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.suite_files import only_pair
from keras_attention.evaluation.suite_files import parse_json
from keras_attention.evaluation.suite_files import suite_paths
from keras_attention.evaluation.suite_files import take
from keras_attention.files.json_text import read_text

Path = str | pathlib.Path


def read_blimp(path: Path) -> list[ContrastiveItem]:
    """Read a BLiMP file, or all of a folder, ordered by name.

    An item's metadata are the object's other keys; `UID` is `paradigm`, and
    `dependency_length`, which the sets with a distractor have, is `distance`.

    Args:
        path: a `.jsonl` file or a folder of them.

    Raises:
        ValueError: naming file and line, if a line is not a JSON object or
            lacks a key.
        FileNotFoundError: If there is no such file.

    Reference:
        Warstadt et al., BLiMP: The Benchmark of Linguistic Minimal Pairs for
        English, TACL 2020, arXiv:1912.00582.
    """
    items = []
    for file in suite_paths(path, ".jsonl"):
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if line.strip():
                origin = f"{file}:{number}"
                items.append(_item(parse_json(line, origin), origin))
    return items


def write_blimp(path: Path, items: Iterable[ContrastiveItem]) -> None:
    """Write items of one contrastive text each; see `read_blimp`.

    Raises:
        ValueError: for an item with a source, or other than one contrastive
            text.
    """
    lines = []
    for number, item in enumerate(items):
        known = dict(item.metadata)
        entry = {
            "sentence_good": item.reference,
            "sentence_bad": only_pair(item, "BLiMP"),
            "UID": str(known.pop("paradigm", "")),
            "pairID": str(number),
        }
        if "distance" in known:
            entry["dependency_length"] = known.pop("distance")
        lines.append(json.dumps({**entry, **known}, ensure_ascii=False) + "\n")
    pathlib.Path(path).write_text("".join(lines), "utf-8")


def _item(entry, origin):
    metadata = dict(entry)
    good = take(metadata, "sentence_good", str, origin)
    bad = take(metadata, "sentence_bad", str, origin)
    metadata["paradigm"] = take(metadata, "UID", str, origin)
    if "dependency_length" in metadata:
        metadata["distance"] = take(metadata, "dependency_length", int, origin)
    return ContrastiveItem(good, [bad], metadata=metadata, origin=origin)
