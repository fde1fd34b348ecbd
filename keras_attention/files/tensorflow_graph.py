"""Checks the operations of a SavedModel before TensorFlow loads it."""

import functools
import os
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from keras_attention.files.limits import file_size

GRAPH = "saved_model.pb"
# The limit of protocol buffers.
MAX_BYTES = 2**31 - 1
# Kinds of TensorFlow's own operations that compute and do nothing else.
KINDS = (
    "array",
    "bitwise",
    "control_flow",
    "count",
    "cudnn_rnn",
    "functional",
    "image",
    "linalg",
    "list",
    "manip",
    "map",
    "math",
    "nn",
    "optional",
    "parsing",
    "ragged_array",
    "ragged_conversion",
    "ragged_math",
    "random",
    "random_index_shuffle",
    "resource_variable",
    "rnn",
    "set",
    "sparse",
    "special_math",
    "spectral",
    "state",
    "stateful_random",
    "stateless_random",
    "stateless_random_ops_v2",
    "string",
    "uniform_quant",
    "xla",
)
# What Keras, preprocessing layers and `image_bytes` need of other kinds.
ALLOWED = {
    "Assert",
    "DynamicPartition",
    "DynamicStitch",
    "HashTableV2",
    "InitializeTableFromTextFileV2",
    "InitializeTableV2",
    "LookupTableExportV2",
    "LookupTableFindV2",
    "LookupTableImportV2",
    "LookupTableInsertV2",
    "LookupTableSizeV2",
    "MutableDenseHashTableV2",
    "MutableHashTableOfTensorsV2",
    "MutableHashTableV2",
    "ParallelDynamicStitch",
    "TensorArrayCloseV3",
    "TensorArrayConcatV3",
    "TensorArrayGatherV3",
    "TensorArrayGradV3",
    "TensorArrayReadV3",
    "TensorArrayScatterV3",
    "TensorArraySizeV3",
    "TensorArraySplitV3",
    "TensorArrayV3",
    "TensorArrayWriteV3",
    "XlaCallModule",
}
# Of the kinds above; they end the process, map a file, or call elsewhere.
REFUSED = {"Abort", "ImmutableConst", "RemoteCall"}
# The first restores the folder's variables. The rest saves them, which no one
# asks of an export: it may be there if nothing that is run can reach it.
RESTORE = "RestoreV2"
SAVE = {"MergeV2Checkpoints", "SaveV2", "ShardedFilename"}
WHY = {
    "gen_io_ops": "it opens files",
    "gen_logging_ops": "it prints or logs",
    "gen_script_ops": "it calls Python",
    "gen_summary_ops": "it writes files",
}


def check_saved_model(folder: str | os.PathLike) -> None:
    """Check that a SavedModel's graph computes and does nothing else.

    The graph is parsed, not loaded.

    Args:
        folder: Of the SavedModel.

    Raises:
        FileNotFoundError: If there is no graph in the folder.
        ValueError: If the graph is damaged, or has an operation that is not
            among those that compute: one that opens or writes files, prints,
            calls Python, or is unknown.
    """
    for finding in graph_findings(folder):
        raise ValueError(finding)


def graph_findings(folder: str | os.PathLike) -> Iterator[str]:
    """Yield what `check_saved_model` would refuse; raise for damage."""
    path = pathlib.Path(folder) / GRAPH
    known = allowed_operations()
    for meta in read_graph(folder).meta_graphs:
        run = _run_functions(meta)
        prefix = meta.saver_def.filename_tensor_name.partition(":")[0]
        own = {f.signature.name: f for f in meta.graph_def.library.function}
        for name, nodes in _functions(meta):
            if name:
                prefixes = {arg.name for arg in own[name].signature.input_arg}
            else:
                prefixes = {prefix}
            for node in nodes:
                if (
                    node.op in known
                    or node.op in own
                    or (node.op in SAVE and name and name not in run)
                    or (node.op == RESTORE and node.input[0] in prefixes)
                ):
                    continue
                yield (
                    f"{path}: The graph has the operation {node.op}"
                    f"{_reason(node.op)}. It is not loaded"
                )


def read_graph(folder: str | os.PathLike) -> Any:
    """Parse a SavedModel's graph, without loading it.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = pathlib.Path(folder) / GRAPH
    if not path.exists():
        raise FileNotFoundError(f"There is no SavedModel here: no {path}")
    if file_size(path) > MAX_BYTES:
        raise ValueError(f"{path}: Must be smaller than 2 GiB")
    graph = SavedModel()
    try:
        graph.ParseFromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        raise ValueError(f"{path}: Damaged: {error}") from error
    if not graph.meta_graphs:
        raise ValueError(f"{path}: Damaged: there is no graph in it")
    return graph


def count_operations(folder: str | os.PathLike) -> Counter:
    """Return how often each operation occurs in a SavedModel's graph."""
    counts: Counter = Counter()
    for meta in read_graph(folder).meta_graphs:
        for _, nodes in _functions(meta):
            counts.update(node.op for node in nodes)
    return counts


@functools.cache
def allowed_operations() -> frozenset[str]:
    """Return the operations of TensorFlow that a checked graph may have."""
    import tensorflow as tf

    kinds = {f"gen_{kind}" for kind in KINDS}
    kinds |= {f"gen_{kind}_ops" for kind in KINDS}
    names = {
        name
        for name in dir(tf.raw_ops)
        if _module(tf.raw_ops, name) in kinds and name not in REFUSED
    }
    return frozenset(names | ALLOWED)


def _module(raw_ops, name):
    """Return the last part of the module that defines an operation."""
    return getattr(getattr(raw_ops, name), "__module__", "").rpartition(".")[2]


def _functions(meta):
    """Yield name and nodes, of the graph, "", and of its functions."""
    yield "", meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield function.signature.name, function.node_def


def _run_functions(meta):
    """Return the functions that loading and calling the model can run."""
    nodes = {node.name: node for node in meta.graph_def.node}
    library = {f.signature.name: f for f in meta.graph_def.library.function}
    pending = [meta.saver_def.restore_op_name]
    for signature in meta.signature_def.values():
        pending += [tensor.name for tensor in signature.outputs.values()]
    for collection in meta.collection_def.values():
        pending += list(collection.node_list.value)
    seen, functions = set(), set()
    called = []
    while pending:
        name = pending.pop().lstrip("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        pending += nodes[name].input
        called += _called(nodes[name], library)
    while called:
        name = called.pop()
        if name in functions:
            continue
        functions.add(name)
        for node in library[name].node_def:
            called += _called(node, library)
    return functions


def _called(node, library):
    """Return the functions of the file that a node calls."""
    names = [node.op]
    for value in node.attr.values():
        names.append(value.func.name)
        names += [function.name for function in value.list.func]
    return [name for name in names if name in library]


def _reason(kind):
    import tensorflow as tf

    if not hasattr(tf.raw_ops, kind):
        return ", which is not TensorFlow's own"
    module = _module(tf.raw_ops, kind)
    return f": {WHY[module]}" if module in WHY else ""
