"""Exports a model as a SavedModel that TensorFlow Serving loads."""

import os
import pathlib
import shutil
import uuid

import keras

from keras_attention.validation import check_boolean
from keras_attention.validation import check_positive_integer


def export_for_serving(
    model: keras.Model,
    directory: str | os.PathLike,
    version: int | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write `directory/version/`, the layout that TensorFlow Serving watches.

    The signature `serving_default` has named inputs and outputs: the names of
    the model's input and output tensors. Sizes that are `None` in the model
    stay open. The files are written beside and then renamed, so that a server
    that watches the directory never sees half a model, and a version that is
    there already is not overwritten unless that is asked for.

    Args:
        model: a functional or Sequential model that has been built.
        directory: the folder of the model's versions; made if missing.
        version: positive integer, or `None` for the next free one.
        overwrite: whether a version that is there already is replaced.

    Returns:
        The path of the new version.

    Raises:
        TypeError, ValueError: for a model without defined inputs, a version
            that is no positive integer, or a backend that cannot export.
        FileExistsError: if the version exists already and `overwrite` is
            false.
        OSError: if the directory cannot be written.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3), name="image"),
    ...     keras_attention.SqueezeExcite(ratio=1, name="gated"),
    ... ])
    >>> path = export_for_serving(model, "exported")
    >>> path.name
    '1'
    """
    _check_model(model)
    if version is not None:
        check_positive_integer("version", version)
    check_boolean("overwrite", overwrite)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if version is not None and not overwrite:
        _check_free(directory, version)
    # Not a number: TensorFlow Serving passes over it.
    beside = directory / f".writing-{uuid.uuid4().hex}"
    try:
        _write(model, beside)
        if overwrite and version is not None:
            return _replace(beside, directory / str(version))
        return _rename(beside, directory, version)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A SavedModel that TensorFlow Serving runs is exported under the "
            "TensorFlow backend: save the model as '.keras', then load and "
            "export it with KERAS_BACKEND=tensorflow. "
            f"Received: backend={keras.backend.backend()!r}"
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must have defined inputs: a functional model, or a "
            "Sequential one that has been built. Received: model "
            f"'{model.name}' of type {type(model).__name__} without inputs. "
            "Call a subclassed model on a `keras.Input` and export "
            "`keras.Model(inputs, outputs)`."
        )


def _write(model, path):
    import tensorflow as tf

    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)
        for tensor in model.inputs
    ]

    # A Sequential model has one input, and no `input` before its first call.
    sequential = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if sequential else model.input

    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(structure, tensors)
        outputs = model(inputs, training=False)
        if isinstance(outputs, dict):
            return outputs
        return dict(
            zip(output_names(model), keras.tree.flatten(outputs), strict=True)
        )

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=signature)
    archive.write_out(str(path), verbose=False)


def output_names(model: keras.Model) -> list[str]:
    """The names of a model's outputs: those of the layers that give them."""
    names = []
    for tensor in model.outputs:
        name = tensor._keras_history.operation.name
        count = sum(other.split("_output_")[0] == name for other in names)
        names.append(f"{name}_output_{count}" if count else name)
    return names


def _check_free(directory, version):
    if (directory / str(version)).exists():
        raise FileExistsError(
            "A version that exists is not overwritten. Received: "
            f"version={version} in '{directory}', which has it already. "
            "Leave `version` out for the next free one, or pass "
            "`overwrite=True`."
        )


def _rename(beside, directory, version):
    """Rename to the version asked for, or to the next that is free.

    `os.rename` fails on a folder that is not empty, so of two exports at one
    time each gets a version of its own.
    """
    while True:
        target = directory / str(version or _next_version(directory))
        try:
            os.rename(beside, target)
            return target
        except OSError:
            if not target.exists():
                raise
            if version is not None:
                _check_free(directory, version)


def _replace(beside, target):
    """Put a new version where an old one may be; keep the old on failure."""
    old = beside.with_name(f"{beside.name}-replaced")
    replaced = target.exists()
    if replaced:
        os.rename(target, old)
    try:
        os.rename(beside, target)
    except OSError:
        if replaced:
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return target


def _next_version(directory):
    versions = [
        int(path.name) for path in directory.iterdir() if path.name.isdigit()
    ]
    return max(versions, default=0) + 1
