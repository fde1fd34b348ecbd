"""The files of other runtimes than TensorFlow: written and run.

Keras' own `model.export` writes them; the runtimes here are those that will
read them where the model is served.
"""

import contextlib
import importlib
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

from keras_attention.ops.attention.dispatch import plain_attention
from keras_attention.serving.signatures import input_shapes
from keras_attention.serving.signatures import name_outputs
from keras_attention.serving.signatures import pack_inputs
from keras_attention.serving.verify import Arrays
from keras_attention.serving.verify import input_array

SAVED_MODEL = "saved-model"
FILES = {
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "openvino": "model.xml",
}
FORMATS = (SAVED_MODEL, *FILES)
# What writes a format, and what runs it.
WRITERS = {"onnx": ("tf2onnx", "onnx"), "litert": (), "openvino": ("openvino",)}
ONNX_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
RUNTIMES = {
    "onnx": "onnxruntime",
    "litert": "ai_edge_litert",
    "openvino": "openvino",
}


def check_format(format: str, verify: bool) -> None:
    """Raise `ImportError` if a package that a format needs is missing."""
    needed = [*WRITERS[format], *[RUNTIMES[format]] * verify]
    for name in needed:
        try:
            importlib.import_module(name)
        except ImportError as error:
            only = name == RUNTIMES[format] and name not in WRITERS[format]
            raise ImportError(
                f"format={format!r} needs the package {name}: "
                f"pip install 'keras-attention-layers[{format}]'."
                + " Only the check of the export needs it; verify=False goes "
                "without." * only
            ) from error


def write_format(
    model: keras.Model, folder: str | os.PathLike, format: str
) -> pathlib.Path:
    """Write a model for another runtime; its outputs have their names.

    Raises:
        ValueError: If the format lacks something that the model does; with
            the converter's own words.
    """
    path = pathlib.Path(folder) / FILES[format]
    path.parent.mkdir(exist_ok=True)
    named = _inference_model(model)
    options: dict[str, Any] = {}
    if format == "litert":
        import tensorflow as tf

        # Without TensorFlow's own operations, which no LiteRT runtime has.
        builtins = [tf.lite.OpsSet.TFLITE_BUILTINS]
        options = {"target_spec": {"supported_ops": builtins}}
    try:
        # Loops do not convert, or run slowly where they do.
        with (
            plain_attention(),
            _constants_as_arrays(model),
            warnings.catch_warnings(),
        ):
            # The converters' own, about what NumPy will leave off.
            warnings.simplefilter("ignore")
            named.export(str(path), format=format, verbose=False, **options)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"The model '{model.name}' cannot be written as {format}: "
            f"{str(error).strip()[:700]}"
        ) from error
    if format == "openvino":
        _name_outputs(path, named.output.keys())
    return path


@contextlib.contextmanager
def _constants_as_arrays(model):
    """Have tensors that layers keep, such as means, become constants.

    ONNX's converter takes a tensor that was computed before the graph, such
    as the mean of an adapted `Normalization`, for an input of the graph.
    """
    import tensorflow as tf

    replaced = []
    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
                replaced.append((layer, name, value))
    try:
        for layer, name, value in replaced:
            # Past Keras' tracking of attributes, as it is put back.
            layer.__dict__[name] = value.numpy()
        yield
    finally:
        for layer, name, value in replaced:
            layer.__dict__[name] = value


def _inference_model(model):
    """The model in inference mode, its outputs by name and its batch open."""
    inputs = [
        keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)
        for shape, tensor in zip(input_shapes(model), model.inputs, strict=True)
    ]
    outputs = model(pack_inputs(model, inputs), training=False)
    named = keras.Model(inputs, name_outputs(model, outputs))
    named(named.inputs)  # Keras exports what has been called.
    return named


def _name_outputs(path, names):
    """Leave each output the model's name for it, of several that it has."""
    import openvino

    model = openvino.Core().read_model(str(path))
    for output in model.outputs:
        output.tensor.set_names(output.names & set(names))
    beside = path.with_name("named.xml")
    openvino.serialize(model, str(beside))
    del model  # It still reads the first file.
    for suffix in (".xml", ".bin"):
        os.replace(beside.with_suffix(suffix), path.with_suffix(suffix))


def find_format(folder: str | os.PathLike) -> str:
    """Return the format of an export, by its file."""
    for format, name in FILES.items():
        if (pathlib.Path(folder) / name).exists():
            return format
    return SAVED_MODEL


def read_format(folder: str | os.PathLike, format: str) -> dict[str, dict]:
    """Return what a file takes and gives, as `read_signatures` does.

    Raises:
        ImportError: If the runtime is not installed.
        RuntimeError: If it cannot load the file.
    """
    tensors, _ = _open(folder, format)
    return {"serving_default": tensors}


def run_format_calls(
    folder: str | os.PathLike, format: str, calls: list[Arrays]
) -> list[dict[str, np.ndarray]]:
    """Return what a file answers in its own runtime, to each of the calls.

    Args:
        folder: the folder of one version.
        format: which of the files.
        calls: arrays by name; they get the dtypes that the file takes.

    Raises:
        ValueError: for inputs that are not the model's.
        ImportError: If the runtime is not installed.
        RuntimeError: If it cannot load or run the file.
    """
    tensors, run = _open(folder, format)
    expected = tensors["inputs"]
    answers = []
    for inputs in calls:
        if set(inputs) != set(expected):
            raise ValueError(
                f"'{folder}' takes the inputs {', '.join(expected)}. "
                f"Received: {', '.join(inputs)}"
            )
        values = {
            name: input_array(name, inputs[name], info)
            for name, info in expected.items()
        }
        try:
            answers.append(run(values))
        except Exception as error:
            shapes = ", ".join(str(x.shape) for x in values.values())
            raise RuntimeError(
                f"'{folder}' cannot be run on inputs of {shapes}: {error}"
            ) from error
    return answers


def _open(folder, format):
    """What a file takes and gives, and a function that runs it."""
    check_format(format, verify=True)
    path = pathlib.Path(folder) / FILES[format]
    try:
        return OPENERS[format](str(path))
    except Exception as error:
        raise RuntimeError(f"'{path}' cannot be loaded: {error}") from error


def _open_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )

    def tensors(found):
        return {
            x.name: {"dtype": ONNX_DTYPES.get(x.type, x.type[7:-1])}
            | {"shape": [n if isinstance(n, int) else None for n in x.shape]}
            for x in found
        }

    def run(values):
        names = [x.name for x in session.get_outputs()]
        return dict(zip(names, session.run(names, values), strict=True))

    both = {
        "inputs": tensors(session.get_inputs()),
        "outputs": tensors(session.get_outputs()),
    }
    return both, run


def _open_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    ((key, _),) = interpreter.get_signature_list().items()
    runner = interpreter.get_signature_runner(key)

    def tensors(details):
        return {
            name: {"dtype": np.dtype(info["dtype"]).name}
            | {"shape": [n if n >= 0 else None for n in _sizes(info)]}
            for name, info in details.items()
        }

    both = {
        "inputs": tensors(runner.get_input_details()),
        "outputs": tensors(runner.get_output_details()),
    }
    return both, lambda values: runner(**values)


def _sizes(info):
    sizes = info["shape_signature"]
    return (sizes if len(sizes) else info["shape"]).tolist()


def _open_openvino(path):
    import openvino

    # By itself it computes in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", settings)

    def tensors(found):
        return {
            x.any_name: {"dtype": x.element_type.to_dtype().name}
            | {
                "shape": [
                    None if n.is_dynamic else n.get_length()
                    for n in x.partial_shape
                ]
            }
            for x in found
        }

    def run(values):
        found = model(values)
        return {x.any_name: found[x] for x in model.outputs}

    both = {
        "inputs": tensors(model.inputs),
        "outputs": tensors(model.outputs),
    }
    return both, run


OPENERS = {
    "onnx": _open_onnx,
    "litert": _open_litert,
    "openvino": _open_openvino,
}
