"""ContraWSD: translations of ambiguous words, against every wrong sense."""

import json
import pathlib
from collections.abc import Iterable

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.suite_files import check_object
from keras_attention.evaluation.suite_files import iterate_json_list
from keras_attention.evaluation.suite_files import take

Path = str | pathlib.Path
# Followed by the name of the corpus that was counted, which differs between
# the two files of the suite.
FREQUENCY_KEY = "frequency of sense/ambig word"


def read_contrawsd(path: Path) -> list[ContrastiveItem]:
    """Read a JSON file of ContraWSD.

    An item is right only if the reference beats every contrastive text.
    Metadata are the entry's other keys; `ambig word` and `sense` are `word`
    and `sense`, both together `paradigm`, and the training frequency of the
    sense and of the word, where there is one, `frequency` and
    `word_frequency`.

    Args:
        path: Path of the file.

    Raises:
        ValueError: naming file and line, for invalid JSON or a missing key.

    Reference:
        Rios, Mascarell and Sennrich, Improving Word Sense Disambiguation in
        Neural Machine Translation with Sense Embeddings, WMT 2017.
    """
    return [_item(entry, at) for at, entry in iterate_json_list(path)]


def write_contrawsd(path: Path, items: Iterable[ContrastiveItem]) -> None:
    """Write items with a source, and `word` and `sense` in their metadata.

    Raises:
        ValueError: for an item without.
    """
    entries = []
    for item in items:
        known = dict(item.metadata)
        if item.source is None or not {"word", "sense"} <= known.keys():
            raise ValueError(
                f"{item.prefix}ContraWSD has items with a source, and 'word' "
                f"and 'sense' in their metadata. Received: {item}"
            )
        known.pop("paradigm", None)
        if {"frequency", "word_frequency"} <= known.keys():
            counts = f"{known.pop('frequency')}/{known.pop('word_frequency')}"
            read = [key for key in known if key.startswith(FREQUENCY_KEY)]
            known[read[0] if read else FREQUENCY_KEY] = counts
        entries.append(
            {
                "source": item.source,
                "reference": item.reference,
                "ambig word": known.pop("word"),
                "sense": known.pop("sense"),
                **known,
                "errors": [{"contrastive": text} for text in item.contrastive],
            }
        )
    text = json.dumps(entries, ensure_ascii=False, indent=2)
    pathlib.Path(path).write_text(text + "\n", "utf-8")


def _item(entry, origin):
    metadata = dict(entry)
    source = take(metadata, "source", str, origin)
    reference = take(metadata, "reference", str, origin)
    errors = take(metadata, "errors", list, origin)
    metadata["word"] = take(metadata, "ambig word", str, origin)
    metadata["sense"] = take(metadata, "sense", str, origin)
    metadata["paradigm"] = f"{metadata['word']}:{metadata['sense']}"
    for key in entry:
        if key.startswith(FREQUENCY_KEY):
            metadata.update(_frequencies(entry[key], origin))
    return ContrastiveItem(
        reference,
        [
            take(dict(check_object(error, origin)), "contrastive", str, origin)
            for error in errors
        ],
        source=source,
        metadata=metadata,
        origin=origin,
    )


def _frequencies(value, origin):
    """`"12/40"`: the sense 12 times, the word 40 times."""
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"{origin}: A frequency must be two whole numbers, 'sense/word'. "
            f"Received: {value!r}"
        )
    return {"frequency": int(parts[0]), "word_frequency": int(parts[1])}
