"""Reads weights from wherever they are: arrays by the names they have there."""

import io
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
import numpy as np

from keras_attention.files import check_torch_file
from keras_attention.files import read_arrays
from keras_attention.files.archives import open_archive
from keras_attention.files.archives import read_member
from keras_attention.files.hdf5 import list_hdf5
from keras_attention.files.safetensors_file import list_safetensors
from keras_attention.files.torch_file import FLOOR
from keras_attention.types import Tensor

# Where a `.keras` archive has its weights.
KERAS_WEIGHTS = "model.weights.h5"
TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
# What checkpoints wrap around the weights.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "params",
    "ema",
    "state_dict_ema",
    "model_ema",
    "params_ema",
)
# What training on several devices and `torch.compile` put before all names.
PREFIXES = ("module.", "_orig_mod.")
# What the source's modules say about themselves, by the names they use.
HEADS = (
    "num_heads",
    "num_query_heads",
    "num_attention_heads",
    "n_heads",
)
SETTINGS = ("stride", "dilation", "groups", "eps")
# What modules call their activations, and torch its classes, as Keras does.
ACTIVATIONS = {
    "activation": ("activation", "act1", "act"),
    "gate_activation": ("scale_activation", "gate"),
}
KERAS_NAMES = {
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "sigmoid": "sigmoid",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_silu",
    "gelu": "gelu",
    "elu": "elu",
    "leakyrelu": "leaky_relu",
    "mish": "mish",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Source:
    """The arrays of a source and, where it is made of modules, their settings.

    Args:
        arrays: arrays by name.
        settings: for each module by name, what changes its outputs and is in
            no array: strides, dilation, groups, epsilon, number of heads.
        is_layer: whether this is one Keras layer, of which every weight
            counts.
    """

    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_layer: bool = False

    def under(self, prefix: str) -> "Source":
        """Return what comes after a prefix."""
        settings = {
            f"{name}.".removeprefix(prefix).removesuffix("."): values
            for name, values in self.settings.items()
            if f"{name}.".startswith(prefix) or not prefix
        }
        arrays = {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }
        return Source(arrays, settings, self.is_layer)


def read_source(source: Tensor) -> Source:
    """Return the arrays of a module, mapping, Keras layer or file, by name.

    No file is read in a way that runs code from it.

    Raises:
        TypeError, ValueError: for what is none of these.
        FileNotFoundError: for a file that does not exist.
        ImportError: If the package that reads the file is missing.
    """
    settings = {}
    is_layer = isinstance(source, keras.layers.Layer)
    if isinstance(source, str | os.PathLike):
        source = _read_file(pathlib.Path(source))
    elif is_layer:
        settings = {"": _settings(source)}
        source = _keras_weights(source)
    elif hasattr(source, "state_dict"):
        settings = {
            name: _settings(module) for name, module in source.named_modules()
        }
        source = source.state_dict()
    if not isinstance(source, Mapping):
        raise TypeError(
            "`source` must be a torch module, a dictionary of arrays by name, "
            "a Keras layer, or the path of a file of weights. Received: "
            f"{source!r} (of type {type(source).__name__})"
        )
    while inner := [n for n in WRAPPERS if isinstance(source.get(n), Mapping)]:
        source = source[inner[0]]
    while outer := _common_prefix(source):
        source = {k.removeprefix(outer): v for k, v in source.items()}
        settings = {k.removeprefix(outer): v for k, v in settings.items()}
    arrays = {name: _to_array(name, value) for name, value in source.items()}
    return Source(arrays, settings, is_layer)


def _common_prefix(names):
    """Return the prefix that all names share and that says nothing, if any."""
    for prefix in PREFIXES:
        if names and all(str(name).startswith(prefix) for name in names):
            return prefix
    return ""


def _read_file(path):
    if not path.exists():
        raise FileNotFoundError(f"There is no file of weights at '{path}'.")
    # The authors' checkpoints are called `.pth.tar` and are not archives.
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".tar"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix in TORCH_FILES:
        return _read_torch(path)
    if suffix == ".npz":
        return _read_npz(path)
    if suffix == ".h5":
        return _read_hdf5(path, path)
    if suffix == ".keras":
        with open_archive(path) as archive:
            file = io.BytesIO(read_member(archive, KERAS_WEIGHTS))
        return _read_hdf5(file, path)
    raise ValueError(
        "A file of weights must end in .safetensors, .npz, .weights.h5, "
        f".keras or one of {', '.join(TORCH_FILES)}, which may be followed by "
        f".tar. Received: '{path}'"
    )


def _read_safetensors(path):
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(
            "Files of safetensors need the package safetensors: "
            "pip install 'keras-attention-layers[weights]'"
        ) from error
    list_safetensors(path)
    try:
        return load_file(path)
    except (KeyError, SafetensorError, TypeError) as error:
        raise ValueError(
            f"'{path}' cannot be read as a file of safetensors: {error}. Is "
            "it complete?"
        ) from error


def _read_torch(path):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"'{path.name}' is a file of torch, which reads it: "
            "pip install 'keras-attention-layers[torch]'"
        ) from error
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    if version < FLOOR:
        raise ImportError(
            f"Torch {torch.__version__} can run code from a file of weights "
            f"(CVE-2026-24747): pip install 'torch>={FLOOR[0]}.{FLOOR[1]}', or "
            "ask for a file of safetensors"
        )
    check_torch_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError) as error:
        raise ValueError(
            f"'{path}' cannot be read as a file of torch: {error}. Is it "
            "complete?"
        ) from error
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        # Torch's own message goes on to advise what would run code.
        raise ValueError(
            f"'{path}' holds more than tensors, or is not a file of torch. To "
            "read the rest, code from the file would have to run, which is "
            "never done here. Ask for a file of the weights alone, as "
            "`safetensors.torch.save_file(model.state_dict(), path)` or "
            "`torch.save(model.state_dict(), path)` write it."
        ) from None


def _read_npz(path):
    return read_arrays(path)


def _read_hdf5(file, path):
    import h5py

    names = [name.removeprefix("/") for name, _, _ in list_hdf5(file, path)]
    with h5py.File(file, "r") as opened:
        return {name: _read_dataset(opened[name]) for name in names}


def _read_dataset(dataset):
    """Return the values of a data set, those of bfloat16 as float32."""
    values = dataset[()]
    if dataset.attrs.get("dtype") != "bfloat16":
        return values
    # Keras stores its bits.
    return (values.view("uint16").astype("uint32") << 16).view("float32")


def _keras_weights(layer):
    """Return weights by attribute: layers' names differ from model to model."""
    attributes = vars(layer)
    # On the torch backend a Keras layer is a torch module, which keeps
    # submodules in a dictionary of its own.
    attributes = {**attributes, **attributes.get("_modules", {})}
    parts = {
        name: value
        for name, value in attributes.items()
        if isinstance(value, keras.layers.Layer)
    }
    weights = {
        f"{name}.{_inner_name(weight, part)}": weight
        for name, part in parts.items()
        for weight in part.weights
    }
    inner = {id(weight) for weight in weights.values()}
    own = {w.name: w for w in layer.weights if id(w) not in inner}
    return {**own, **weights}


def _inner_name(weight, layer):
    """Return the end of a weight's path, after the layer's own name."""
    _, found, end = weight.path.rpartition(f"{layer.name}/")
    return (end if found else weight.name).replace("/", ".")


def _settings(module):
    found = {
        name: value
        for name in SETTINGS
        if isinstance(value := getattr(module, name, None), int | float | tuple)
    }
    for name in HEADS:
        if isinstance(value := getattr(module, name, None), int):
            found["num_heads"] = value
            break
    if getattr(module, "padding_mode", "zeros") != "zeros":
        found["padding_mode"] = module.padding_mode
    if getattr(module, "add_zero_attn", False):
        found["add_zero_attn"] = True
    for name, theirs in ACTIVATIONS.items():
        kinds = [
            type(getattr(module, attribute)).__name__.lower()
            for attribute in theirs
            if hasattr(module, attribute)
        ]
        known = [KERAS_NAMES[kind] for kind in kinds if kind in KERAS_NAMES]
        if known and not isinstance(module, keras.layers.Layer):
            found[name] = known[0]
    return found


def _to_array(name, value):
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    if isinstance(value, keras.Variable):
        value = value.value
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(
        "`source` must hold arrays. Received: "
        f"'{name}' of type {type(value).__name__}"
    )
