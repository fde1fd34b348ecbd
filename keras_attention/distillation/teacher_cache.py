"""A teacher's outputs for each example of a data set, on disk or in memory.

A file is a magic number, the length of its header, the number of its records,
the header as JSON, and the records, all of one size. While it is written it
has the ending `.part`, and lacks nothing but its name: a run that was killed
goes on from the last complete record.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

MAGIC = b"KATTEND1"
FINGERPRINT = "fingerprint"
# The form of a batch that carries the teacher's outputs.
INPUTS = "student_inputs"
TARGETS = "teacher_outputs"


def with_targets(inputs: Any, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the teacher's outputs and the inputs into one structure."""
    return {INPUTS: inputs, TARGETS: dict(targets)}


def is_precomputed(inputs: Any) -> bool:
    """Whether inputs are of the form that `with_targets` gives."""
    return isinstance(inputs, Mapping) and set(inputs) == {INPUTS, TARGETS}


def targets_of(records: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the teacher's outputs in records, by name."""
    return {
        name: np.ascontiguousarray(records[name])
        for name in records.dtype.names
        if name != FINGERPRINT
    }


def fingerprints(inputs: Any) -> np.ndarray:
    """Returns a number for each example that depends on all its values."""
    leaves = [np.ascontiguousarray(x) for x in keras.tree.flatten(inputs)]
    found = np.empty(len(leaves[0]), "<u8")
    for i in range(len(found)):
        digest = hashlib.blake2b(digest_size=8)
        for leaf in leaves:
            digest.update(leaf[i].tobytes())
        found[i] = int.from_bytes(digest.digest(), "little")
    return found


def teacher_fingerprint(teacher: keras.Model, settings: Any) -> str:
    """Returns a string for a teacher's weights and what is read of it."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for weight in teacher.weights:
        value = keras.ops.convert_to_numpy(weight.value)
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def make_records(
    marks: np.ndarray, targets: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Puts fingerprints and targets into one record for each example."""
    names = sorted(targets)
    fields: list[Any] = [(FINGERPRINT, "<u8")]
    fields += [(name, "<f4", targets[name].shape[1:]) for name in names]
    records = np.empty(len(marks), fields)
    records[FINGERPRINT] = marks
    for name in names:
        records[name] = targets[name]
    return records


def check_examples(records: np.ndarray, marks: np.ndarray) -> None:
    """Checks that records are of examples with these fingerprints.

    Raises:
        ValueError: If they are not.
    """
    if len(records) == len(marks) and (records[FINGERPRINT] == marks).all():
        return
    raise ValueError(
        "The data set gives other examples than those that the teacher was "
        f"run for. Received: {len(marks)} examples, "
        f"{_differing(records, marks)} of them different. It must not be "
        "shuffled or augmented between the two: shuffle what "
        "`precompute_teacher` returns, augment with its `augment` and "
        "`views`, or give AttentionTransferModel the teacher itself. A file "
        "belongs to the data set that it was written for."
    )


class RecordsInMemory:
    """Keeps records in memory."""

    def __init__(self):
        self._parts: list[np.ndarray] = []
        self.done = np.empty(0, [(FINGERPRINT, "<u8")])

    def append(self, records: np.ndarray) -> None:
        """Adds records after the last."""
        self._parts.append(records)

    def finish(self) -> np.ndarray:
        """Returns all records."""
        return np.concatenate(self._parts)


class RecordsOnDisk:
    """Writes records to a file; an interrupted run can be continued.

    Args:
        path: Path of the finished file.
        teacher: Fingerprint of the teacher.

    Raises:
        ValueError: If the file, finished or not, is of another teacher, has
            another format or is truncated.
        OSError: If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike, teacher: str):
        self.path = pathlib.Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.teacher = teacher
        self.finished = self.path.exists()
        self.done = np.empty(0, [(FINGERPRINT, "<u8")])
        if self.finished:
            self.done = open_records(self.path, teacher)
        elif self.part.exists():
            self.done = open_records(self.part, teacher, whole=False)

    def append(self, records: np.ndarray) -> None:
        """Adds records after the last; they are on disk when this returns."""
        if not self.part.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.part.write_bytes(_header(records.dtype, self.teacher))
        with open(self.part, "ab") as file:
            file.write(records.tobytes())

    def keep(self, count: int) -> None:
        """Removes all records but the first `count`."""
        self.done = self.done[:count]
        if not self.part.exists():
            return
        if count == 0:
            self.part.unlink()
            return
        start, dtype, _, _ = _read_header(self.part)
        os.truncate(self.part, start + count * dtype.itemsize)

    def finish(self) -> np.ndarray:
        """Gives the file its number of records and its name; opens it."""
        if not self.finished:
            start, dtype, _, _ = _read_header(self.part)
            count = (self.part.stat().st_size - start) // dtype.itemsize
            with open(self.part, "r+b") as file:
                file.seek(len(MAGIC) + 8)
                file.write(count.to_bytes(8, "little"))
            os.replace(self.part, self.path)
            self.finished = True
        return open_records(self.path, self.teacher)


def open_records(
    path: str | os.PathLike, teacher: str, whole: bool = True
) -> np.ndarray:
    """Opens a file of records without reading it.

    Args:
        path: Path of the file.
        teacher: Fingerprint of the expected teacher.
        whole: Whether the file must be complete. Otherwise the complete
            records of an unfinished file are returned.

    Raises:
        ValueError: If it has another format, is of another teacher or is
            truncated.
    """
    path = pathlib.Path(path)
    start, dtype, count, found = _read_header(path)
    if found != teacher:
        raise ValueError(
            f"The file '{path}' was written for another teacher, or for other "
            "layers, map function, power or logits of it. Delete it, or "
            f"choose another path. Received: teacher {teacher}, expected "
            f"{found}"
        )
    there = (path.stat().st_size - start) // dtype.itemsize
    if whole and (path.stat().st_size - start) != count * dtype.itemsize:
        raise ValueError(
            f"The file '{path}' is cut short or has been added to: it should "
            f"have {count} records. Received: {there}. Delete it and run "
            "`precompute_teacher` again."
        )
    if there == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r", start, (there,))


def _differing(records, marks):
    if len(records) != len(marks):
        return abs(len(marks) - len(records)) or "some"
    return int((records[FINGERPRINT] != marks).sum())


def _header(dtype, teacher):
    fields = [
        [name, dtype[name].base.str, list(dtype[name].shape)]
        for name in dtype.names
    ]
    text = json.dumps({"teacher": teacher, "fields": fields}).encode()
    return MAGIC + len(text).to_bytes(8, "little") + bytes(8) + text


def _read_header(path):
    """Where records begin, their dtype, their number, and whose they are."""
    try:
        with open(path, "rb") as file:
            magic, length, count = file.read(8), file.read(8), file.read(8)
            text = file.read(int.from_bytes(length, "little"))
            header = json.loads(text) if magic == MAGIC else {}
            fields = [
                (name, kind, tuple(shape))
                for name, kind, shape in header["fields"]
            ]
            teacher = header["teacher"]
    except (ValueError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"The file '{path}' was not written by `precompute_teacher`, or "
            "is cut short. Delete it, or choose another path."
        ) from error
    start = 24 + len(text)
    return start, np.dtype(fields), int.from_bytes(count, "little"), teacher
