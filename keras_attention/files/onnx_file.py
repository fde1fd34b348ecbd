"""Checks ONNX files before a runtime loads them."""

import os
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from keras_attention.files.limits import file_size

DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
MAX_BYTES = 2**31 - 1


def check_onnx(path: str | os.PathLike) -> None:
    """Check that an ONNX file is complete in itself.

    Args:
        path: The file.

    Raises:
        ImportError: If the package onnx is missing.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, has tensors in other files, or
            operations of a domain that no standard runtime has.
    """
    for finding in onnx_findings(path):
        raise ValueError(finding)


def onnx_findings(path: str | os.PathLike) -> Iterator[str]:
    """Yield what `check_onnx` would refuse; raise for damage."""
    model = read_onnx(path)
    for tensor in _tensors(model):
        if tensor.data_location == 1 or tensor.external_data:
            yield (
                f"{path}: The tensor '{tensor.name}' is in another file, "
                "which is not opened. Store the tensors in the model"
            )
    for domain in sorted({node.domain for node in _nodes(model)} - DOMAINS):
        own = {function.domain for function in model.functions}
        if domain not in own:
            yield f"{path}: The operations of '{domain}' are not ONNX's own"


def read_onnx(path: str | os.PathLike) -> Any:
    """Parse an ONNX file, without the files that it refers to.

    Raises:
        ImportError: If the package onnx is missing.
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "ONNX files are checked by the package onnx: "
            "pip install 'keras-attention-layers[onnx]'"
        ) from error
    from google.protobuf.message import DecodeError

    if file_size(path) > MAX_BYTES:
        raise ValueError(f"{path}: Must be smaller than 2 GiB")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(pathlib.Path(path).read_bytes())
    except (DecodeError, RecursionError) as error:
        raise ValueError(f"{path}: Damaged: {error}") from error
    if not model.HasField("graph"):
        raise ValueError(f"{path}: Damaged: there is no graph in it")
    return model


def count_nodes(path: str | os.PathLike) -> Counter:
    """Return how often each operation occurs in an ONNX file."""
    return Counter(node.op_type for node in _nodes(read_onnx(path)))


def _graphs(model):
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _nodes(model):
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model):
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
