"""Asks an export what the server would be asked, and compares the answers."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_attention.serving import c_api
from keras_attention.validation import nearest

Arrays = Mapping[str, Any]


def run_export(
    directory: str | os.PathLike,
    inputs: Arrays,
    signature: str = "serving_default",
) -> dict[str, np.ndarray]:
    """Return what a signature of an export answers.

    A SavedModel is loaded in a new process through TensorFlow's C API, as
    TensorFlow Serving does, which imports neither keras nor keras_attention.
    An export to another format runs in its own runtime, in this process.

    Args:
        directory: The folder of one version, `.../model/1`, of any format
            that `export_for_serving` writes.
        inputs: The signature's inputs by name. Encoded images and other
            strings are arrays of `bytes`.
        signature: Name of the signature. Formats other than a SavedModel have
            `"serving_default"` alone. Defaults to `"serving_default"`.

    Raises:
        FileNotFoundError: If there is no export.
        ImportError: If the format's runtime is not installed.
        ValueError: For a signature or an input that does not exist, or one
            that is missing.
        RuntimeError: If the runtime cannot load or run the model; its message
            says why.
    """
    from keras_attention.serving import formats

    format = formats.find_format(directory)
    if format == formats.SAVED_MODEL:
        return run_signatures(directory, [(signature, inputs)])[0]
    _check_signature({"serving_default": None}, signature)
    return formats.run_format_calls(directory, format, [inputs])[0]


def verify_export(
    directory: str | os.PathLike,
    inputs: Arrays,
    expected: Arrays,
    signature: str = "serving_default",
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Compare what an export answers with what is expected.

    See `run_export` for how it is asked.

    Args:
        directory: the folder of one version, `.../model/1`.
        inputs: the signature's inputs by name.
        expected: its outputs by name; each must be there and be equal.
        signature: name of the signature.
        rtol: allowed part of each expected value.
        atol: allowed part of the largest expected value of an output.

    Raises:
        ValueError: If an answer differs; it says which and by how much.
        FileNotFoundError, RuntimeError: as `run_export`.
    """
    answer = run_export(directory, inputs, signature)
    compare(answer, expected, f"'{signature}' in '{directory}'")


def compare(
    answer: Arrays,
    expected: Arrays,
    what: str,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Raise `ValueError` unless all of `expected` is in `answer`."""
    for name, value in expected.items():
        value = np.asarray(value)
        found = answer.get(name)
        if found is None:
            raise ValueError(
                f"The export {what} does not give the output '{name}'. "
                f"Received: {', '.join(answer)}"
            )
        if found.shape != value.shape:
            raise ValueError(
                f"The output '{name}' of the export {what} has another "
                f"shape. Expected: {value.shape}. Received: {found.shape}"
            )
        if value.dtype.kind not in "fiub":
            if (found != value).any():
                raise ValueError(
                    f"The output '{name}' of the export {what} differs."
                )
            continue
        scale = np.abs(value[np.isfinite(value)]).max(initial=0)
        if not np.allclose(
            found.astype("float64"), value.astype("float64"), rtol, atol * scale
        ):
            error = np.abs(found.astype("float64") - value).max()
            raise ValueError(
                f"The output '{name}' of the export {what} differs by up to "
                f"{error:.2e}, of values up to {scale:.2e}. Do not serve it: "
                "an operation of the model behaves differently once exported."
            )


def run_signatures(
    directory: str | os.PathLike, calls: list[tuple[str, Arrays]]
) -> list[dict[str, np.ndarray]]:
    """Run several `(signature, inputs)` in one process; see `run_export`."""
    known = read_signatures(directory)
    request = {
        "library": str(_library()),
        "directory": str(pathlib.Path(directory).resolve()),
        "calls": [_call(known, name, inputs) for name, inputs in calls],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        result = subprocess.run(
            [sys.executable, c_api.__file__, str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        if result.returncode:
            error = path.with_name("request.json.error")
            says = error.read_text() if error.exists() else result.stderr
            raise RuntimeError(
                "TensorFlow could not load or run the SavedModel. Received: "
                f"directory='{directory}'. It says: {says[-1500:]}"
            )
        answers = json.loads(path.with_name("request.json.answer").read_text())
    return [
        {name: c_api.from_json(value) for name, value in answer.items()}
        for answer in answers
    ]


def read_signatures(directory: str | os.PathLike) -> dict[str, dict]:
    """Return the signatures of an export: names, dtypes, shapes, tensors.

    Args:
        directory: The folder of one version, of any format.

    Returns:
        A dictionary for each signature, by its name. `"inputs"` and
        `"outputs"` in it have the tensors by name, and a tensor has a
        `"dtype"`, a `"shape"`, with `None` for an open size, and, of a
        SavedModel, its name in the graph, `"tensor"`.

    Raises:
        FileNotFoundError: If there is no export.
        ImportError: If the format's runtime is not installed.
        RuntimeError: If the runtime cannot load the file.
        ValueError: If a SavedModel is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    from keras_attention.serving import formats

    format = formats.find_format(directory)
    if format != formats.SAVED_MODEL:
        return formats.read_format(directory, format)
    path = pathlib.Path(directory) / "saved_model.pb"
    if not path.exists():
        raise FileNotFoundError(
            f"There is no export at '{directory}': 'saved_model.pb' is "
            "missing. Give the folder of one version, such as 'model/1'."
        )
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(
            f"The SavedModel at '{directory}' is damaged: {error}"
        ) from error
    signatures = {}
    for graph in saved.meta_graphs:
        signatures.update(signature_tensors(graph.signature_def))
    return signatures


def signature_tensors(definitions: Mapping[str, Any]) -> dict[str, dict]:
    """Return TensorFlow's `SignatureDef`s as `read_signatures` gives them."""
    return {
        name: {
            "inputs": _tensors(signature.inputs),
            "outputs": _tensors(signature.outputs),
        }
        for name, signature in sorted(definitions.items())
        if not name.startswith("__")
    }


def _tensors(infos):
    import tensorflow as tf

    tensors = {}
    for name, info in sorted(infos.items()):
        sizes = [dimension.size for dimension in info.tensor_shape.dim]
        tensors[name] = {
            "tensor": info.name,
            "dtype": tf.dtypes.as_dtype(info.dtype).name,
            "shape": [None if size < 0 else size for size in sizes],
        }
    return tensors


def _check_signature(known, name):
    if name not in known:
        raise ValueError(
            "The export has no such signature. Received: "
            f"signature={name!r}; there are {', '.join(sorted(known))}."
            f"{nearest(name, known)}"
        )


def _call(known, name, inputs):
    _check_signature(known, name)
    expected = known[name]["inputs"]
    wrong = set(inputs) ^ set(expected)
    if wrong:
        raise ValueError(
            f"The signature '{name}' takes the inputs "
            f"{', '.join(expected)}. Received: {', '.join(inputs)}"
        )
    values = {}
    for key, info in expected.items():
        value = input_array(key, inputs[key], info)
        values[info["tensor"]] = c_api.to_json(value)
    outputs = known[name]["outputs"]
    return {
        "inputs": values,
        "outputs": {key: info["tensor"] for key, info in outputs.items()},
    }


def input_array(name: str, value: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Return an input of a signature as an array of its dtype.

    Args:
        name: The input's name, for errors.
        value: What is given for it.
        info: Its `"dtype"` and `"shape"`, as `read_signatures` has them.

    Raises:
        ValueError: If the value has another shape, or cannot be converted
            without becoming another value.
    """
    array = convert(name, value, info["dtype"])
    expected = info["shape"]
    # A tensor of unknown rank has no sizes, as a scalar has none.
    fits = not expected or (
        len(expected) == array.ndim
        and all(
            size in (None, found)
            for size, found in zip(expected, array.shape, strict=True)
        )
    )
    if not fits:
        raise ValueError(
            f"Input '{name}' must have the shape {tuple(expected)}. "
            f"Received: an array of shape {array.shape}"
        )
    return array


def convert(name: str, value: Any, dtype: str) -> np.ndarray:
    """Return an input as an array of a dtype, for floats rounded to it.

    Args:
        name: The input's name, for errors.
        value: What is given for it.
        dtype: Name of the dtype; `"string"` for bytes.

    Raises:
        ValueError: If it is something else, is a fraction, NaN or out of range
            where integers are taken, or would become infinite.
    """
    if dtype == "string":
        # NumPy's own bytes would lose zeros at their end.
        return np.asarray(value, object)
    try:
        given = np.asarray(value)
        with np.errstate(all="ignore"):
            array = given.astype(dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"Input '{name}' must be numbers of {dtype}. Received: {error}"
        ) from error
    if given.dtype.kind not in "fiub":
        return array
    if np.issubdtype(array.dtype, np.integer) or array.dtype.kind == "b":
        changed = array != given
    else:
        wide = array.astype("float64")
        changed = np.isfinite(given.astype("float64")) & ~np.isfinite(wide)
    if changed.any():
        raise ValueError(
            f"Input '{name}' must be numbers of {dtype}. "
            f"Received: {given[changed].flat[0]} (of type {given.dtype}), "
            "which would become another number"
        )
    return array


def _library():
    import tensorflow as tf

    folder = pathlib.Path(tf.sysconfig.get_lib())
    found = sorted(folder.glob("libtensorflow_cc*"))
    if not found:
        raise FileNotFoundError(
            "TensorFlow's C library, libtensorflow_cc, is not in its "
            f"package. Received: '{folder}'"
        )
    return found[0]
