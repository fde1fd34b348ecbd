"""Runs a SavedModel through TensorFlow's C API, the loader of its server.

This file imports neither keras nor TensorFlow's Python package, nor anything
else of this package: run as a script, it shows that an export needs none of
them. It reads a request from the file that it is given and writes the answer
next to it; `verify` makes the one and reads the other.
"""

import base64
import contextlib
import ctypes
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

STRING = 7
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
# Bytes of one string of a tensor, TF_TString.
STRING_SIZE = 24


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class SavedModelSession:
    """A SavedModel that the C API has loaded with the tag `serve`.

    `run` may be called from several threads at one time. What the model
    takes is given back by `close`, or at the end of a `with`.

    Args:
        library: path of `libtensorflow_cc`.
        directory: the SavedModel's folder.

    Raises:
        RuntimeError: with TensorFlow's own message, if loading fails.
    """

    def __init__(self, library: str, directory: str):
        self._c = _declare(ctypes.CDLL(library))
        self._session = None
        self._graph = self._c.TF_NewGraph()
        options = self._c.TF_NewSessionOptions()
        tags = (ctypes.c_char_p * 1)(b"serve")
        try:
            with self._status() as status:
                self._session = self._c.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    str(directory).encode(),
                    tags,
                    1,
                    self._graph,
                    None,
                    status,
                )
        except RuntimeError:
            self.close()
            raise
        finally:
            self._c.TF_DeleteSessionOptions(options)

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        """Return the tensors named by `outputs`.

        Args:
            inputs: name of a graph's tensor, `"serve_x:0"`, to its value.
            outputs: names of tensors.

        Raises:
            RuntimeError: with TensorFlow's own message, or for a dtype that
                NumPy does not have.
        """
        count, total = len(inputs), len(outputs)
        sources = (_Output * count)(*map(self._output, inputs))
        targets = (_Output * total)(*map(self._output, outputs))
        given = (ctypes.c_void_p * count)()
        found = (ctypes.c_void_p * total)()
        try:
            for number, value in enumerate(inputs.values()):
                given[number] = self._to_tensor(value)
            with self._status() as status:
                self._c.TF_SessionRun(
                    self._session,
                    None,
                    sources,
                    given,
                    count,
                    targets,
                    found,
                    total,
                    None,
                    0,
                    None,
                    status,
                )
            return [self._to_array(tensor) for tensor in found]
        finally:
            # An output may be an input's own memory: the strings go last.
            for tensor in filter(None, found):
                self._c.TF_DeleteTensor(tensor)
            for tensor in filter(None, given):
                self._delete_given(tensor)

    def close(self) -> None:
        """Give back what the model takes; no `run` may be under way."""
        if self._session:
            with self._status() as status:
                self._c.TF_DeleteSession(self._session, status)
        if self._graph:
            self._c.TF_DeleteGraph(self._graph)
        self._session = self._graph = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @contextlib.contextmanager
    def _status(self):
        """A status of this call alone; its message becomes the error."""
        status = self._c.TF_NewStatus()
        try:
            yield status
            if self._c.TF_GetCode(status):
                message = self._c.TF_Message(status)
                raise RuntimeError(message.decode(errors="replace"))
        finally:
            self._c.TF_DeleteStatus(status)

    def _output(self, name):
        operation, _, index = name.partition(":")
        pointer = self._c.TF_GraphOperationByName(
            self._graph, operation.encode()
        )
        if not pointer:
            raise RuntimeError(f"The graph has no operation '{operation}'.")
        return _Output(pointer, int(index or 0))

    def _to_tensor(self, value):
        value = np.asarray(value)
        shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        if value.dtype.kind in "OS":
            return self._to_strings(value, shape)
        value = np.ascontiguousarray(value)
        codes = {name: code for code, name in DTYPES.items()}
        if value.dtype.name not in codes:
            raise RuntimeError(
                f"An input must be one of {', '.join(codes)}. "
                f"Received: an array of {value.dtype.name}"
            )
        tensor = self._c.TF_AllocateTensor(
            codes[value.dtype.name], shape, value.ndim, value.nbytes
        )
        ctypes.memmove(
            self._c.TF_TensorData(tensor), value.ctypes.data, value.nbytes
        )
        return tensor

    def _to_strings(self, value, shape):
        texts = [bytes(text) for text in value.flat]
        tensor = self._c.TF_AllocateTensor(
            STRING, shape, value.ndim, value.size * STRING_SIZE
        )
        for place, text in zip(self._places(tensor), texts, strict=True):
            self._c.TF_StringInit(place)
            self._c.TF_StringCopy(place, text, len(text))
        return tensor

    def _places(self, tensor):
        """Addresses of the strings of a tensor."""
        start = self._c.TF_TensorData(tensor) or 0
        size = self._c.TF_TensorByteSize(tensor)
        return range(start, start + size, STRING_SIZE)

    def _delete_given(self, tensor):
        """Delete a tensor made here, whose strings no one else frees."""
        if self._c.TF_TensorType(tensor) == STRING:
            for place in self._places(tensor):
                self._c.TF_StringDealloc(place)
        self._c.TF_DeleteTensor(tensor)

    def _to_array(self, tensor):
        shape = [
            self._c.TF_Dim(tensor, axis)
            for axis in range(self._c.TF_NumDims(tensor))
        ]
        dtype = self._c.TF_TensorType(tensor)
        if dtype == STRING:
            strings = np.empty(math.prod(shape), object)
            strings[:] = [
                ctypes.string_at(
                    self._c.TF_StringGetDataPointer(place),
                    self._c.TF_StringGetSize(place),
                )
                for place in self._places(tensor)
            ]
            return strings.reshape(shape)
        if dtype not in DTYPES:
            raise RuntimeError(
                f"An output must be one of {', '.join(DTYPES.values())}. "
                f"Received: TensorFlow's dtype number {dtype}. Cast it in "
                "the model."
            )
        size = self._c.TF_TensorByteSize(tensor)
        start = self._c.TF_TensorData(tensor)
        data = ctypes.string_at(start, size) if size else b""
        return np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy()


def _declare(library):
    """Give the functions used their types; pointers would be cut to 32 bits."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    size, text = ctypes.c_size_t, ctypes.c_char_p
    signatures = {
        "TF_NewStatus": (pointer, []),
        "TF_DeleteStatus": (None, [pointer]),
        "TF_GetCode": (integer, [pointer]),
        "TF_Message": (text, [pointer]),
        "TF_NewGraph": (pointer, []),
        "TF_DeleteGraph": (None, [pointer]),
        "TF_NewSessionOptions": (pointer, []),
        "TF_DeleteSessionOptions": (None, [pointer]),
        "TF_DeleteSession": (None, [pointer, pointer]),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            [pointer, pointer, text, pointer, integer]
            + [pointer, pointer, pointer],
        ),
        "TF_GraphOperationByName": (pointer, [pointer, text]),
        "TF_SessionRun": (
            None,
            [pointer, pointer, pointer, pointer, integer, pointer, pointer]
            + [integer, pointer, integer, pointer, pointer],
        ),
        "TF_AllocateTensor": (pointer, [integer, pointer, integer, size]),
        "TF_DeleteTensor": (None, [pointer]),
        "TF_TensorType": (integer, [pointer]),
        "TF_NumDims": (integer, [pointer]),
        "TF_Dim": (ctypes.c_int64, [pointer, integer]),
        "TF_TensorByteSize": (size, [pointer]),
        "TF_TensorData": (pointer, [pointer]),
        "TF_StringInit": (None, [pointer]),
        "TF_StringCopy": (None, [pointer, text, size]),
        "TF_StringDealloc": (None, [pointer]),
        "TF_StringGetDataPointer": (pointer, [pointer]),
        "TF_StringGetSize": (size, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def to_json(array: np.ndarray) -> dict:
    """Return an array as what JSON can hold; strings are bytes."""
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        data = [base64.b64encode(bytes(text)).decode() for text in array.flat]
        return {"dtype": "string", "shape": array.shape, "data": data}
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}


def from_json(value: Mapping) -> np.ndarray:
    """Return the array that `to_json` wrote."""
    if value["dtype"] == "string":
        array = np.empty(len(value["data"]), object)
        array[:] = [base64.b64decode(text) for text in value["data"]]
    else:
        data = base64.b64decode(value["data"])
        array = np.frombuffer(data, value["dtype"])
    return array.reshape(value["shape"])


def _main(path):
    request = json.loads(pathlib.Path(path).read_text())
    answers = []
    with SavedModelSession(request["library"], request["directory"]) as session:
        for call in request["calls"]:
            inputs = {name: from_json(v) for name, v in call["inputs"].items()}
            names = list(call["outputs"])
            found = session.run(inputs, list(call["outputs"].values()))
            answers.append(dict(zip(names, map(to_json, found), strict=True)))
    forbidden = {"keras", "keras_attention", "tensorflow"} & set(sys.modules)
    if forbidden:
        sys.exit(f"The process has imported {', '.join(sorted(forbidden))}.")
    pathlib.Path(path + ".answer").write_text(json.dumps(answers))


if __name__ == "__main__":
    try:
        _main(sys.argv[1])
    except RuntimeError as error:
        # In a file: the standard error output has TensorFlow's log too.
        pathlib.Path(sys.argv[1] + ".error").write_text(str(error))
        sys.exit(1)
