"""Reads weights from wherever they are: arrays by the names they have there."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
# What checkpoints wrap around the weights.
WRAPPERS = ("state_dict", "model_state_dict", "model")
PARALLEL = "module."


def read_source(source: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a module, mapping, Keras layer or file, by name.

    No file is read in a way that runs code from it.

    Raises:
        TypeError, ValueError: for what is none of these.
        FileNotFoundError: for a file that does not exist.
        ImportError: if the package that reads the file is missing.
    """
    if isinstance(source, str | os.PathLike):
        source = _read_file(pathlib.Path(source))
    elif isinstance(source, keras.layers.Layer):
        source = _keras_weights(source)
    elif hasattr(source, "state_dict"):
        source = source.state_dict()
    if not isinstance(source, Mapping):
        raise TypeError(
            "`source` must be a torch module, a dictionary of arrays by name, "
            "a Keras layer, or the path of a file of weights. Received: "
            f"{source!r} (of type {type(source).__name__})"
        )
    for name in WRAPPERS:
        if isinstance(source.get(name), Mapping):
            source = source[name]
    # The authors' checkpoints are of several devices.
    if source and all(name.startswith(PARALLEL) for name in source):
        source = {k.removeprefix(PARALLEL): v for k, v in source.items()}
    return {name: _to_array(name, value) for name, value in source.items()}


def _read_file(path):
    if not path.exists():
        raise FileNotFoundError(f"There is no file of weights at '{path}'.")
    if path.suffix == ".safetensors":
        try:
            from safetensors.numpy import load_file
        except ImportError as error:
            raise ImportError(
                "Files of safetensors need the package safetensors: "
                "pip install 'keras-attention-layers[weights]'"
            ) from error
        return load_file(path)
    if path.suffix in TORCH_FILES:
        try:
            import torch
        except ImportError as error:
            raise ImportError(
                f"'{path.name}' is a file of torch, which reads it: "
                "pip install 'keras-attention-layers[torch]'"
            ) from error
        return torch.load(path, map_location="cpu", weights_only=True)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    raise ValueError(
        "A file of weights must end in .safetensors, .npz or one of "
        f"{', '.join(TORCH_FILES)}. Received: '{path}'"
    )


def _keras_weights(layer):
    """By attribute: the names of layers differ from model to model."""
    parts = {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, keras.layers.Layer)
    }
    return {
        f"{name}.{weight.name}": weight
        for name, part in parts.items()
        for weight in part.weights
    }


def _to_array(name, value):
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    if isinstance(value, keras.Variable):
        return keras.ops.convert_to_numpy(value.value)
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(
        "`source` must hold arrays. Received: "
        f"'{name}' of type {type(value).__name__}"
    )
