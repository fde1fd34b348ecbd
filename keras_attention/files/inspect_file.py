"""Says what a file holds, without loading it."""

import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from keras_attention.files.archives import open_archive
from keras_attention.files.archives import read_member
from keras_attention.files.arrays import list_arrays
from keras_attention.files.hdf5 import list_hdf5
from keras_attention.files.json_text import parse_json
from keras_attention.files.keras_file import CONFIG
from keras_attention.files.keras_file import MAX_CONFIG
from keras_attention.files.keras_file import keras_findings
from keras_attention.files.keras_file import walk_config
from keras_attention.files.limits import file_size
from keras_attention.files.onnx_file import count_nodes
from keras_attention.files.onnx_file import onnx_findings
from keras_attention.files.safetensors_file import list_safetensors
from keras_attention.files.tensorflow_graph import GRAPH
from keras_attention.files.tensorflow_graph import count_operations
from keras_attention.files.tensorflow_graph import graph_findings
from keras_attention.files.torch_file import is_tensors_only
from keras_attention.files.torch_file import list_globals


@dataclass(frozen=True)
class FileReport:
    """What a file holds.

    Attributes:
        path: The file or folder.
        kind: Such as `".keras"` or `"SavedModel"`.
        size: Bytes of the file, or of the graph of a SavedModel.
        counts: How often each class of layer, or each operation, occurs.
        tensors: `(name, shape, dtype)` of each array.
        findings: What is suspicious, a sentence each; empty if nothing is.
    """

    path: str
    kind: str
    size: int
    counts: dict[str, int]
    tensors: list[tuple[str, tuple[int, ...], str]]
    findings: list[str]

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.kind}, {self.size:,} bytes"]
        if self.counts:
            lines.append("contents:")
            lines += [f"  {n:5d}  {name}" for name, n in self.counts.items()]
        if self.tensors:
            lines.append("arrays:")
            lines += [
                f"  {name or '(one)'}  {dtype} {tuple(shape)}"
                for name, shape, dtype in self.tensors
            ]
        if self.findings:
            lines.append("suspicious:")
            lines += [f"  {finding}" for finding in self.findings]
        else:
            lines.append("nothing suspicious was found")
        return "\n".join(lines)


def inspect_file(path: str | os.PathLike) -> FileReport:
    """Say what a file holds, without loading it or running code from it.

    Args:
        path: A `.keras`, `.h5`, `.onnx`, `.safetensors`, `.npz` or `.npy`
            file, a file of torch (`.pt`, `.pth`, `.bin`, `.ckpt`), or the
            folder of a SavedModel.

    Returns:
        A `FileReport`; printed, it is a list of what is in the file.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ImportError: If the package that parses the format is missing.
        ValueError: If the file is of another kind, or damaged.

    Example:

    >>> from keras_attention.files import inspect_file
    >>> np.savez("images.npz", x=np.ones((2, 3), "float32"))
    >>> report = inspect_file("images.npz")
    >>> report.tensors, report.findings
    ([('x', (2, 3), 'float32')], [])
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no such file or folder: {path}")
    if path.is_dir():
        kind, size = "SavedModel", 0
        if (path / GRAPH).is_file():
            size = file_size(path / GRAPH)
        reader = _saved_model
    else:
        kind, reader = _kind(path)
        size = file_size(path)
    counts, tensors, findings = reader(path)
    ordered = dict(sorted(counts.items(), key=lambda item: -item[1]))
    return FileReport(str(path), kind, size, ordered, tensors, findings)


def _kind(path) -> tuple[str, Callable]:
    """Return the kind of a file and its reader, by name, then contents."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".tar"]
    suffix = suffixes[-1] if suffixes else ""
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"\x89HDF"):
        return ".h5", _hdf5
    if suffix in READERS:
        return suffix, READERS[suffix]
    raise ValueError(
        f"{path}: The kind of file must be one of {', '.join(READERS)}, or "
        f"the folder of a SavedModel. Received: {suffix or 'no suffix'}"
    )


def _keras(path):
    findings = _collect(keras_findings(path))
    with open_archive(path) as archive:
        if CONFIG not in archive.namelist():
            return Counter(), [], findings
        config = parse_json(read_member(archive, CONFIG, MAX_CONFIG), path)
    entries = list(walk_config(config))
    # Layers and operations of a network, inside of lists of them, and what is
    # trainable wherever it is: policies, optimizers and losses have names too.
    listed = {
        id(entry)
        for holder in entries
        if isinstance(holder.get("layers"), list)
        for entry in holder["layers"]
    }
    names = Counter(
        entry["class_name"]
        for entry in entries
        if isinstance(entry.get("class_name"), str)
        and isinstance(entry.get("config"), dict)
        and (id(entry) in listed or "trainable" in entry["config"])
    )
    return names, [], findings


def _hdf5(path):
    tensors: list = []
    findings = _collect(_keep(list_hdf5(path, path), tensors))
    findings.append(
        f"{path}: Keras' reader of .h5 models has no safe mode: load it only "
        "if you trust its author, and save it as .keras"
    )
    return Counter(), tensors, findings


def _arrays(path):
    found = list_arrays(path)
    rows = [(name, *each) for name, each in found.items()]
    return Counter(), rows, []


def _safetensors(path):
    return Counter(), list_safetensors(path), []


def _torch(path):
    names = list_globals(path)
    findings = [
        f"{path}: The file names {name}, which is not part of tensors"
        for name in names
        if not is_tensors_only(name)
    ]
    if zipfile.is_zipfile(path):
        findings += _collect(_archive(path))
    return Counter(names), [], findings


def _archive(path):
    with open_archive(path):
        yield from ()


def _onnx(path):
    return count_nodes(path), [], _collect(onnx_findings(path))


def _saved_model(path):
    return count_operations(path), [], _collect(graph_findings(path))


def _keep(items, kept):
    for item in items:
        kept.append(item)
    yield from ()


def _collect(findings):
    """Return findings; one that ends the search is one too."""
    found = []
    try:
        for finding in findings:
            if finding not in found:
                found.append(finding)
    except ValueError as error:
        found.append(str(error))
    return found


READERS = {
    ".keras": _keras,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".onnx": _onnx,
    ".safetensors": _safetensors,
    ".npz": _arrays,
    ".npy": _arrays,
    ".pt": _torch,
    ".pth": _torch,
    ".bin": _torch,
    ".ckpt": _torch,
}
