"""What the readers and writers of the suites share."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.files import parse_json as parse
from keras_attention.files.json_text import read_text


def suite_paths(path: str | pathlib.Path, suffix: str) -> list[pathlib.Path]:
    """Return the file, or the files of a folder that end in `suffix`."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{suffix}"))
    if not files:
        raise FileNotFoundError(
            f"A folder of this suite holds files that end in '{suffix}'. "
            f"Received: '{path}', without one"
        )
    return files


def parse_json(text: str, origin: str) -> dict[str, Any]:
    """Return the JSON object of a text."""
    return check_object(parse(text, origin), origin)


def iterate_json_list(
    path: str | pathlib.Path,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON list, each with the `file:line` it starts.

    The list is walked entry by entry, since Python's JSON reader keeps no
    line numbers.
    """
    text = read_text(path)
    decoder = json.JSONDecoder()
    position, line = _skip(text, 0), 1
    if text[position : position + 1] != "[":
        raise ValueError(
            f"{path}:1: The file must hold a JSON list. Received: "
            f"{text[position : position + 20]!r}"
        )
    counted = 0
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        line += text.count("\n", counted, position)
        counted = position
        try:
            entry, position = decoder.raw_decode(text, position)
        except RecursionError as error:
            raise ValueError(
                f"{path}:{line}: JSON is nested too deeply"
            ) from error
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}:{error.lineno}: Not valid JSON: {error.msg}"
            ) from error
        origin = f"{path}:{line}"
        yield origin, check_object(entry, origin)
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            raise ValueError(
                f"{path}:{line + text.count(chr(10), counted, position)}: Not "
                "valid JSON: expected ',' or ']' after an entry"
            )
    if text[position + 1 :].strip():
        raise ValueError(f"{path}: Not valid JSON: text after the list")


def check_object(entry: Any, origin: str) -> dict[str, Any]:
    """Return `entry`, which must be a JSON object."""
    if not isinstance(entry, dict):
        raise ValueError(
            f"{origin}: An entry must be a JSON object. Received: {entry!r}"
        )
    return entry


def take(entry: dict[str, Any], key: str, kind: type, origin: str) -> Any:
    """Remove and return a key's value, of type `kind`.

    Raises:
        ValueError: naming file and line, if the key is missing or its value
            is of another type.
    """
    if key not in entry:
        raise ValueError(
            f"{origin}: An entry of this suite must have the key '{key}'. "
            f"Received: keys {', '.join(map(repr, entry)) or 'none'}"
        )
    value = entry.pop(key)
    if kind is int and isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(
            f"{origin}: '{key}' must be of type {kind.__name__}. "
            f"Received: {value!r}"
        )
    return value


def only_pair(item: ContrastiveItem, suite: str) -> str:
    """Return the one contrastive text of an item without a source."""
    if item.source is not None or len(item.contrastive) != 1:
        raise ValueError(
            f"{item.prefix}{suite} has items of one contrastive text and no "
            f"source. Received: {item}"
        )
    return item.contrastive[0]


def _skip(text, position):
    """The position of the next character that is not white space."""
    while position < len(text) and text[position].isspace():
        position += 1
    return position
