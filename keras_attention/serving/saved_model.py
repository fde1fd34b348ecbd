"""Exports a model as a SavedModel that TensorFlow Serving loads."""

import contextlib
import os
import pathlib
import shutil
import time
import uuid
import warnings
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_attention.files.temporary import named_in_errors
from keras_attention.pixels import RECORD
from keras_attention.pixels import find_pixel_range
from keras_attention.pixels import record_text
from keras_attention.serving.formats import FORMATS
from keras_attention.serving.formats import SAVED_MODEL
from keras_attention.serving.formats import check_format
from keras_attention.serving.formats import run_format_calls
from keras_attention.serving.formats import write_format
from keras_attention.serving.image_bytes_signature import ImageBytesSignature
from keras_attention.serving.signatures import EXAMPLE_SIZES
from keras_attention.serving.signatures import NAMES
from keras_attention.serving.signatures import PredictionSignature
from keras_attention.serving.signatures import Signature
from keras_attention.serving.signatures import check_names
from keras_attention.serving.verify import Arrays
from keras_attention.serving.verify import compare
from keras_attention.serving.verify import run_signatures
from keras_attention.serving.warmup import warmup_requests
from keras_attention.serving.warmup import write_warmup
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

DEFAULT = "serving_default"
# Seconds after which what an export has not finished is taken for left over.
STALE = 24 * 3600
# TensorFlow Serving's versions are int64.
MAX_VERSION = 2**63 - 1


def export_for_serving(
    model: keras.Model,
    directory: str | os.PathLike,
    version: int | None = None,
    signatures: Mapping[str, Signature] | None = None,
    warmup: Arrays | Sequence[tuple[str, Arrays]] | None = None,
    verify: bool = True,
    overwrite: bool = False,
    format: str = SAVED_MODEL,
) -> pathlib.Path:
    """Write `directory/version/`, the layout that TensorFlow Serving watches.

    The signature `serving_default` has named inputs and outputs: the names of
    the model's input and output tensors, or the keys of a dictionary of
    outputs. Sizes that are `None` in the model stay open, and so does the
    batch of a Sequential model that was built by a call. The model runs in
    inference mode. The graph refuses inputs of other shapes: servers do not
    look, and a wrong rank can end one in the middle of a convolution. The
    files are written to a temporary folder that is then renamed, so that a
    server that watches the directory never sees half a model, and a version
    that is there already is not overwritten unless that is asked for. An
    export that is killed leaves a folder `.writing-…`, which servers pass
    over and which an export on another day removes.

    Before the rename the export is loaded in a new process by TensorFlow's C
    API, which is how TensorFlow Serving loads it; every signature is asked
    there and must answer what the model answers here, at several sizes,
    odd ones among them, where sizes are open.

    The range of pixels that the model takes, if it is known by
    `keras_attention.find_pixel_range`, is stored with the version, where
    `keras-attention predict` reads it.

    Other runtimes take the same layout with another file in it, and are asked
    in the same way before the rename: `model.onnx` (ONNX Runtime, Triton),
    `model.tflite` (LiteRT) and `model.xml` with `model.bin` (OpenVINO and its
    model server). They have `serving_default` alone and no warm-up. Inputs
    must be numbers, weights float32; the converters refuse what their format
    lacks, such as text. LiteRT is written without TensorFlow's own
    operations, which its runtime has not.

    Args:
        model: a functional or Sequential model that has been built.
        directory: the folder of the model's versions; made if missing.
        version: positive integer below 2**63, or `None` for the next free
            one.
        signatures: further signatures by name, such as
            `{"attention": AttentionSignature(["stage1", "se:gate"])}`. One
            that is called `"serving_default"` takes the usual one's place.
        warmup: requests that the server replays when it has loaded the
            model: the inputs of `serving_default` by name, or a list of
            `(signature, inputs)`; at most 1,000. They also take the place
            of the random inputs with which the export is verified. Needs
            tensorflow-serving-api.
        verify: whether the answers are compared before the rename.
        overwrite: whether a version that is there already is replaced.
        format: `"saved-model"`, `"onnx"`, `"litert"` or `"openvino"`; each of
            the last three needs the extra of its name.

    Returns:
        The path of the new version.

    Raises:
        TypeError, ValueError: for a model without defined inputs, a version
            that is not a positive integer, a backend that cannot export,
            requests that do not fit the model, or an export that answers
            otherwise than the model.
        FileExistsError: If the version exists already and `overwrite` is
            false.
        ImportError: for `warmup` without tensorflow-serving-api, or a
            `format` without its extra.
        OSError: If the directory cannot be written.

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
    signatures = _check_signatures(signatures)
    if version is not None:
        check_version(version)
    check_boolean("verify", verify)
    check_boolean("overwrite", overwrite)
    check_choice("format", format, FORMATS)
    if format != SAVED_MODEL:
        _check_format(format, model, signatures, warmup, verify)
    check_names(model)
    if verify:
        for signature in signatures.values():
            if isinstance(signature, ImageBytesSignature):
                signature.check_pixels(model)
    requests = warmup_requests(warmup or [], DEFAULT, model, signatures)
    directory = pathlib.Path(directory)
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(
            "`directory` must be a folder, in which each version has a folder "
            f"of its own. Received: directory='{directory}', a file"
        )
    # The innermost first.
    made = [
        each for each in (directory, *directory.parents) if not each.exists()
    ]
    directory.mkdir(parents=True, exist_ok=True)
    if version is not None and not overwrite:
        _check_free(directory, version)
    _clean(directory)
    # Not a number: TensorFlow Serving passes over it.
    temporary = directory / f".writing-{uuid.uuid4().hex}"
    with named_in_errors(temporary, directory):
        try:
            temporary.mkdir()
            if format != SAVED_MODEL:
                write_format(model, temporary, format)
            else:
                _write(model, signatures, temporary)
            if requests:
                write_warmup(temporary, requests, model.name)
            _write_record(model, signatures, temporary, format)
            if verify:
                _verify(model, signatures, requests, temporary, format)
            if overwrite and version is not None:
                return _replace(temporary, directory / str(version))
            return _rename(temporary, directory, version)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            # An export that fails leaves no folders; others are not empty.
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Models are exported, to any format, under the TensorFlow "
            "backend: save the model as '.keras', then load and "
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


def _check_format(format, model, signatures, warmup, verify):
    """Refuse early what another format than TensorFlow's does not have."""
    if len(signatures) > 1 or warmup:
        raise ValueError(
            "`signatures` and `warmup` are for format='saved-model': other "
            "formats have one signature, that of the model. For a model that "
            "gives attention in addition to its prediction, export "
            "`keras.Model(inputs, outputs)` with those outputs. "
            f"Received: format={format!r}"
        )
    for tensor in model.inputs:
        if tensor.dtype == "string":
            raise ValueError(
                f"format={format!r} has no operations on text: export the "
                "model that takes tokens. Received: input "
                f"'{tensor.name}' of dtype string"
            )
    policies = {layer.compute_dtype for layer in model._flatten_layers()}
    if policies & {"float16", "bfloat16"}:
        raise ValueError(
            f"format={format!r} takes a model of float32: load it with the "
            "dtype policy 'float32', and let the runtime choose a precision. "
            f"Received: layers that compute in {', '.join(sorted(policies))}"
        )
    check_format(format, verify)


def _check_signatures(signatures):
    """Return the signatures, the usual one among them."""
    if signatures is not None and not isinstance(signatures, Mapping):
        raise TypeError(
            "`signatures` must map names to signatures, such as "
            '{"attention": AttentionSignature(["stage1"])}. '
            f"Received: signatures={signatures!r}"
        )
    signatures = {DEFAULT: PredictionSignature(), **(signatures or {})}
    for name, signature in signatures.items():
        if not isinstance(name, str) or not isinstance(signature, Signature):
            raise TypeError(
                "`signatures` must map names to objects such as "
                "AttentionSignature, ImageBytesSignature or TextSignature. "
                f"Received: {name!r}: {signature!r}"
            )
        if not NAMES["output"].fullmatch(name):
            raise ValueError(
                "The name of a signature must be of ASCII letters, digits and "
                f"'_', and begin with a letter. Received: {name!r}"
            )
    return signatures


def _write(model, signatures, path):
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, signature in signatures.items():
        for part in signature.tracked():
            archive.track(part)
        specs = signature.inputs(model)
        function = _with_checked_shapes(signature.function(model), specs)
        archive.add_endpoint(name, function, input_signature=specs)
    try:
        archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:
        raise OSError(
            f"The export could not be written to '{path.parent}': "
            f"{error.message}"
        ) from error


def _write_record(model, signatures, path, format):
    """Store the range of pixels, if it is known or a signature scales to it."""
    found = find_pixel_range(model)
    pixels = None if found.assumed else found.pixels
    for signature in signatures.values():
        if isinstance(signature, ImageBytesSignature):
            pixels = signature.pixel_range(model)
    if pixels is None or all(len(x.shape) != 4 for x in model.inputs):
        return
    folder = path / "assets.extra" if format == SAVED_MODEL else path
    folder.mkdir(exist_ok=True)
    (folder / RECORD).write_text(record_text(pixels))


def _with_checked_shapes(function, specs):
    """Let the graph refuse inputs of other shapes than the signature's.

    A server passes on what it is sent, and some of TensorFlow's operations
    end the whole process on a tensor of a rank that they do not expect.
    """
    import tensorflow as tf

    def call(*tensors):
        checked = [
            tf.ensure_shape(tensor, spec.shape)
            for tensor, spec in zip(tensors, specs, strict=True)
        ]
        return function(*checked)

    return call


def _verify(model, signatures, requests, path, format):
    """Compare every signature's answers with what its function gives here."""
    calls, expected = [], []
    asked = {name for name, _ in requests}
    for name, inputs in requests:
        calls.append((name, inputs))
        expected.append(_expect(model, name, signatures[name], inputs))
    for name, signature in signatures.items():
        if name in asked:
            continue
        for number in range(len(EXAMPLE_SIZES)):
            inputs = signature.example(model, number)
            try:
                answer = _expect(model, name, signature, inputs)
            except ValueError:
                # Few models take every size; the first they must take.
                if number == 0:
                    raise
                continue
            calls.append((name, inputs))
            expected.append(answer)
    try:
        if format == SAVED_MODEL:
            answers = run_signatures(path, calls)
        else:
            answers = run_format_calls(path, format, [x for _, x in calls])
    except RuntimeError as error:
        raise ValueError(
            f"The export of '{model.name}' as {format} was written, but its "
            f"own runtime cannot run it: {error}"
        ) from error
    without: set[str] = set()
    for (name, inputs), answer, value in zip(
        calls, answers, expected, strict=True
    ):
        shapes = ", ".join(str(np.shape(x)) for x in inputs.values())
        if format == SAVED_MODEL:
            without |= _without_batch(name, inputs, answer)
        compare(answer, value, f"signature '{name}', for inputs of {shapes},")
    if without:
        warnings.warn(
            "Outputs without the batch as their first axis are served by gRPC "
            'and by requests of columns ("inputs") alone: a server refuses '
            'requests of rows ("instances"), and all requests if batching is '
            f"switched on. Received: {', '.join(sorted(without))}. Repeat "
            "them for each example in the model if it is to be served so.",
            stacklevel=3,
        )


def _without_batch(signature, inputs, answer):
    """The outputs whose first axis is not the batch."""
    sizes = {np.shape(value)[:1] for value in inputs.values()}
    if len(sizes) != 1 or sizes == {()}:
        return set()
    return {
        f"'{name}' of '{signature}'"
        for name, value in answer.items()
        if value.shape[:1] not in sizes
    }


def _expect(model, name, signature, inputs):
    """What the model answers here."""
    function = signature.function(model)
    tensors = [inputs[spec.name] for spec in signature.inputs(model)]
    try:
        return function(*map(keras.ops.convert_to_tensor, tensors))
    except Exception as error:
        raise ValueError(
            f"The model '{model.name}' does not run on the example with "
            f"which its signature '{name}' is verified: {error} Give real "
            "inputs as `warmup`, or `verify=False`."
        ) from error


def check_version(version: int) -> None:
    """Raise unless a version is one that TensorFlow Serving loads."""
    check_positive_integer("version", version)
    if version > MAX_VERSION:
        raise ValueError(
            "`version` must be below 2**63: servers count in int64. "
            f"Received: version={version}"
        )


def version_number(path: pathlib.Path) -> int | None:
    """Return the number of a version's folder, or `None` for another name."""
    name = path.name
    if not name.isascii() or not name.isdecimal() or len(name) > 19:
        return None
    return number if (number := int(name)) <= MAX_VERSION else None


def _check_free(directory, version):
    if os.path.lexists(directory / str(version)):
        raise FileExistsError(
            "A version that exists is not overwritten. Received: "
            f"version={version} in '{directory}', which has it already. "
            "Leave `version` out for the next free one, or pass "
            "`overwrite=True`."
        )


def _rename(temporary, directory, version):
    """Rename to the version asked for, or to the next that is free.

    `os.rename` fails on a folder that is not empty, so of two exports at one
    time each gets a version of its own.
    """
    while True:
        target = directory / str(version or _next_version(directory))
        try:
            os.rename(temporary, target)
            return target
        except OSError:
            if not os.path.lexists(target):
                raise
            if version is not None:
                _check_free(directory, version)


def _replace(temporary, target):
    """Put a new version where an old one may be; keep the old on failure.

    Of a link the link is replaced; what it leads to is left alone.
    """
    old = target.with_name(f".replaced-{target.name}-{uuid.uuid4().hex}")
    replaced = os.path.lexists(target)
    if replaced:
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except OSError:
        if replaced:
            os.rename(old, target)
        raise
    _remove(old)
    return target


def _remove(path):
    """Remove a folder, or a link or file; never what a link leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _clean(directory):
    """Tidy up after exports that were killed, a day ago or more.

    One that was killed while it replaced a version may have left none in its
    place; the old one is then put back.
    """
    for path in directory.glob(".replaced-*"):
        target = directory / path.name.split("-")[1]
        if _is_stale(path) and not os.path.lexists(target):
            os.rename(path, target)
    for path in [*directory.glob(".writing-*"), *directory.glob(".replaced-*")]:
        if _is_stale(path):
            _remove(path)


def _is_stale(path):
    return time.time() - path.lstat().st_ctime > STALE


def _next_version(directory):
    versions = [
        number
        for path in directory.iterdir()
        if (number := version_number(path)) is not None
    ]
    newest = max(versions, default=0)
    if newest == MAX_VERSION:
        raise ValueError(
            f"No version is left after {newest}, the newest in '{directory}'. "
            "Pass `version`, or another directory."
        )
    return newest + 1
