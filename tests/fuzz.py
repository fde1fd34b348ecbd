"""Changes good files at random and reads them: nothing but `ValueError`.

    make fuzz                          # 100,000 inputs of each format
    make fuzz FUZZ="--inputs 300 npz"  # fewer, of one format

Each changed file must be read, or refused with a `ValueError` that names it,
within ten seconds and within 1 GB of memory more than before. Some hundred
inputs of each format are a part of the tests.
"""

import argparse
import functools
import io
import json
import pathlib
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable

import h5py
import numpy as np

from keras_attention import files
from keras_attention.files.hdf5 import check_hdf5
from keras_attention.image_files import read_image

SECONDS = 10
KILOBYTES = 1_000_000  # As Linux reports the peak of memory.
# What makes readers of binary formats stumble.
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
NUMBERS += (2**63 - 1, 2**64 - 1)


def mutate(contents: bytes, draw: random.Random) -> bytes:
    """Return contents with some bytes changed, cut out or repeated."""
    data = bytearray(contents)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        position = draw.randrange(len(data) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            data[position : position + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            size = draw.choice((1, 2, 4, 8))
            number = draw.choice(NUMBERS) % 256**size
            order = draw.choice(("little", "big"))
            data[position : position + size] = number.to_bytes(size, order)
        elif kind == 2:
            del data[position:]
        elif kind == 3:
            del data[position : position + draw.randrange(1, 64)]
        elif kind == 4:
            part = data[position : position + draw.randrange(1, 64)]
            data[position:position] = part * draw.choice((1, 2, 50))
        else:
            other = draw.randrange(len(data) + 1)
            size = draw.randrange(1, 64)
            data[position : position + size] = data[other : other + size]
    return bytes(data)


def _npz():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(12.0).reshape(3, 4), y=np.ones(3))
    return stream.getvalue()


def _npy():
    stream = io.BytesIO()
    np.save(stream, np.arange(12.0).reshape(3, 4))
    return stream.getvalue()


def _json():
    return json.dumps({"inputs": {"x": [[1.5, -2], [3, 4]]}, "t": "é"}).encode()


def _hdf5():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 4), "float32")
        file.create_dataset("layers/x", data=np.ones(99), compression="gzip")
    return stream.getvalue()


def _keras():
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        layers = [keras.Input((3,)), keras.layers.Dense(2)]
        keras.Sequential(layers).save(path)
        return path.read_bytes()


def _config():
    with zipfile.ZipFile(io.BytesIO(_keras())) as archive:
        return archive.read("config.json")


def _image(form):
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.arange(300, dtype="uint8").reshape(10, 10, 3)
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def _safetensors():
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"x": entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


def _torch():
    stream = io.BytesIO()
    pickled = (
        b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch\nFloatStorage\nq\x02s."
    )
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/data/0", bytes(64))
    return stream.getvalue()


def _graph():
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = SavedModel()
    meta = graph.meta_graphs.add()
    for number in range(3):
        node = meta.graph_def.node.add()
        node.name, node.op = f"n{number}", "Identity"
        node.input.append("n0")
    function = meta.graph_def.library.function.add()
    function.signature.name = "f"
    return graph.SerializeToString()


def _read_config(path):
    """The configuration of an archive that is good otherwise."""
    archived = path.with_name("changed.keras")
    with zipfile.ZipFile(archived, "w") as archive:
        archive.writestr("config.json", path.read_bytes())
        archive.writestr("model.weights.h5", _hdf5())
    files.check_keras_file(archived)


def _read_graph(path):
    path.replace(path.with_name("saved_model.pb"))
    files.inspect_file(path.parent)


def _read_hdf5(path):
    check_hdf5(path, path)


# A good file of each format, the name it has, and what reads it.
FORMATS: dict[str, tuple[Callable, str, Callable]] = {
    "npz": (_npz, "x.npz", files.read_arrays),
    "npy": (_npy, "x.npy", files.read_array),
    "json": (_json, "x.json", files.read_json),
    "hdf5": (_hdf5, "x.h5", _read_hdf5),
    "keras": (_keras, "x.keras", files.inspect_file),
    "config": (_config, "x.json", _read_config),
    **{
        form: (
            functools.partial(_image, form),
            f"x.{form}",
            lambda path: read_image(path, 3),
        )
        for form in ("png", "jpeg", "gif")
    },
    "safetensors": (_safetensors, "x.safetensors", files.inspect_file),
    "torch": (_torch, "x.pt", files.inspect_file),
    "graph": (_graph, "x.pb", _read_graph),
}


def fuzz(name: str, inputs: int, seed: int = 0, progress: bool = False) -> int:
    """Read changed files of one format; return how many were refused.

    Raises:
        RuntimeError: For the first one that is neither read nor refused, or
            takes too long or too much; it is kept, and named.
    """
    write, suffix, read = FORMATS[name]
    good = write()
    draw = random.Random(f"{name} {seed}")
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, suffix)
        path.write_bytes(good)
        read(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(inputs):
            contents = mutate(good, draw)
            path.write_bytes(contents)
            start = time.monotonic()
            try:
                read(path)
            except (ValueError, FileNotFoundError):
                refused += 1
            except BaseException as error:
                raise _kept(name, contents, repr(error)) from error
            if time.monotonic() - start > SECONDS:
                raise _kept(name, contents, f"more than {SECONDS} seconds")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if peak - before > KILOBYTES:
                raise _kept(name, contents, "more than 1 GB of memory")
            if progress and number % 1000 == 999:
                print(f"\r{name}: {number + 1:,}", end="", flush=True)
    return refused


def _kept(name, contents, reason):
    with tempfile.NamedTemporaryFile(
        prefix=f"fuzz-{name}-", delete=False
    ) as file:
        file.write(contents)
    return RuntimeError(f"{name}: {reason}. The file is kept: {file.name}")


def main() -> None:
    """Fuzz the formats that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.formats or FORMATS:
        start = time.monotonic()
        refused = fuzz(name, options.inputs, options.seed, sys.stdout.isatty())
        seconds = time.monotonic() - start
        print(
            f"\r{name}: {options.inputs:,} inputs, {refused:,} refused, "
            f"{seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
