"""Checks `.keras` files before Keras builds anything that they describe.

Keras' own safe mode and the checks of its newest version remain. These come
first, are the same on every version of Keras, and open nothing but the file.
"""

import io
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_attention.files.archives import open_archive
from keras_attention.files.archives import read_member
from keras_attention.files.hdf5 import check_hdf5
from keras_attention.files.json_text import parse_json

CONFIG = "config.json"
MAX_CONFIG = 64 * 1024 * 1024
# Each runs code that the file brings, or reads another file.
UNSAFE = {
    "__lambda__": "it is Python code in the file",
    "FlaxLayer": "it calls functions that the file brings",
    "JaxLayer": "it calls functions that the file brings",
    "Lambda": "it is Python code in the file",
    "TFSMLayer": "it runs a TensorFlow graph from another folder",
    "TorchModuleWrapper": "it holds a pickled torch module",
}
PACKAGES = {"builtins", "keras", "keras_cv", "keras_hub", "keras_nlp"}
PACKAGES |= {"keras_attention"}
# Sizes of which each unit has a weight of its own.
SIZES = ("filters", "input_dim", "intermediate_dim", "units")


def check_keras_file(
    path: str | os.PathLike, custom_objects: dict[str, Any] | None = None
) -> None:
    """Check that a `.keras` file describes layers and nothing else.

    The archive, its configuration and its weights are read; nothing is
    built, imported or run.

    Args:
        path: The file.
        custom_objects: Classes and functions by name that the file may
            use, besides Keras' own and registered ones. Defaults to `None`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged; if its configuration has a layer
            that runs code (`Lambda`, `TFSMLayer`, `TorchModuleWrapper`,
            `JaxLayer`, `FlaxLayer`), names a class or function that is
            neither Keras' own nor registered, or a vocabulary in another
            file; if its weights are links to other files; or if a part
            claims far more than the file stores.
    """
    for finding in keras_findings(path, custom_objects):
        raise ValueError(finding)


def keras_findings(
    path: str | os.PathLike, custom_objects: dict[str, Any] | None = None
) -> Iterator[str]:
    """Yield what `check_keras_file` would refuse; raise for damage."""
    with open_archive(path) as archive:
        names = archive.namelist()
        if CONFIG not in names:
            raise ValueError(
                f"{path}: Not a .keras file: the archive has no {CONFIG}. "
                "Save the model by `model.save('model.keras')`"
            )
        contents = read_member(archive, CONFIG, MAX_CONFIG)
        config = parse_json(contents, f"{path}/{CONFIG}")
        stored = 0
        for name in names:
            if name.endswith(".h5"):
                file = io.BytesIO(read_member(archive, name))
                stored += check_hdf5(file, f"{path}/{name}")
    for entry in walk_config(config):
        reason = _refusal(entry, custom_objects or {}, stored)
        if reason is not None:
            yield f"{path}: {reason}"


def walk_config(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every dictionary of a configuration, at any depth."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _refusal(entry, custom_objects, stored):
    """Return why an entry is refused, or `None`."""
    vocabulary = entry.get("vocabulary")
    if isinstance(vocabulary, str) and vocabulary:
        return (
            f"The vocabulary is in another file, {vocabulary!r}, which is not "
            "opened. Save the model with its vocabulary in it"
        )
    for size in SIZES:
        value = entry.get(size)
        if isinstance(value, int) and value > max(stored, 1):
            return (
                f"A layer claims {size}={value:,}, and the file stores "
                f"{stored:,} weights. Nothing was built"
            )
    name = entry.get("class_name")
    if not isinstance(name, str) or "config" not in entry:
        return None
    module = entry.get("module")
    registered = entry.get("registered_name")
    short = name.rsplit(">", 1)[-1]
    if short in UNSAFE:
        return f"The file has a {short}: {UNSAFE[short]}. It is not loaded"
    if name == "function":
        name = entry["config"] if isinstance(entry["config"], str) else name
    if _is_known(name, module, registered, custom_objects):
        return None
    where = f"{module}.{name}" if module else str(registered or name)
    return (
        f"The file has {where!r}, which is neither Keras' own nor registered. "
        "It needs --import MODULE, the module that registers it"
    )


def _is_known(name, module, registered, custom_objects):
    if module is None and registered is None:
        return True  # A plain dictionary, or a short form of Keras' own.
    for key in (registered, name):
        if isinstance(key, str) and (
            key in custom_objects
            or keras.saving.get_registered_object(key) is not None
        ):
            return True
    if not isinstance(module, str):
        return module is None
    return module.split(".")[0] in PACKAGES
