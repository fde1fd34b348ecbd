"""Lingeval97: contrastive translations, one decision for each error."""

import json
import pathlib
from collections.abc import Iterable

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.suite_files import check_object
from keras_attention.evaluation.suite_files import iterate_json_list
from keras_attention.evaluation.suite_files import take
from keras_attention.validation import nearest

Path = str | pathlib.Path
CATEGORIES = (
    "np_agreement",
    "subj_verb_agreement",
    "subj_adequacy",
    "polarity_particle_nicht_del",
    "polarity_particle_kein_del",
    "polarity_affix_del",
    "polarity_particle_nicht_ins",
    "polarity_particle_kein_ins",
    "polarity_affix_ins",
    "auxiliary",
    "verb_particle",
    "compound",
    "transliteration",
)
NUMBERS = ("distance", "frequency")


def read_lingeval97(path: Path) -> list[ContrastiveItem]:
    """Read the JSON file of Lingeval97.

    Each error is a decision of its own, with the error's `type` as
    `paradigm`, and its `distance` and `frequency` where it has them. Its
    score files give the reference's score, then those of its errors;
    `read_scores(..., costs=True)` reads the published ones.

    Args:
        path: Path of the file.

    Raises:
        ValueError: naming file and line, for invalid JSON, a missing key or
            an unknown category.

    Reference:
        Sennrich, How Grammatical is Character-level Neural Machine
        Translation?, EACL 2017, arXiv:1612.04629.
    """
    return [_item(entry, at) for at, entry in iterate_json_list(path)]


def write_lingeval97(path: Path, items: Iterable[ContrastiveItem]) -> None:
    """Write items with a source and one decision for each error.

    Raises:
        ValueError: for an item without, or an unknown category.
    """
    entries = []
    for item in items:
        if item.source is None or item.pair_metadata is None:
            raise ValueError(
                f"{item.prefix}Lingeval97 has items with a source and "
                f"metadata of every contrastive text. Received: {item}"
            )
        errors = []
        for text, known in zip(
            item.contrastive, item.pair_metadata, strict=True
        ):
            known = dict(known)
            kind = _check_category(known.pop("paradigm", None), item.prefix)
            errors.append({"type": kind, "contrastive": text, **known})
        entries.append(
            {
                "source": item.source,
                "reference": item.reference,
                **item.metadata,
                "errors": errors,
            }
        )
    text = json.dumps(entries, ensure_ascii=False, indent=2)
    pathlib.Path(path).write_text(text + "\n", "utf-8")


def _item(entry, origin):
    entry = dict(entry)
    contrastive, known = [], []
    source = take(entry, "source", str, origin)
    reference = take(entry, "reference", str, origin)
    for error in take(entry, "errors", list, origin):
        error = dict(check_object(error, origin))
        kind = take(error, "type", str, origin)
        contrastive.append(take(error, "contrastive", str, origin))
        metadata = {"paradigm": _check_category(kind, f"{origin}: "), **error}
        for key in NUMBERS:
            if key in error:
                metadata[key] = take(error, key, int, origin)
        known.append(metadata)
    return ContrastiveItem(
        reference,
        contrastive,
        source=source,
        metadata=entry,
        pair_metadata=known,
        origin=origin,
    )


def _check_category(category, prefix):
    if category not in CATEGORIES:
        raise ValueError(
            f"{prefix}Lingeval97's categories are {', '.join(CATEGORIES)}. "
            f"Received: {category!r}.{nearest(category, CATEGORIES)}"
        )
    return category
