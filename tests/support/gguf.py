"""Reads files of llama.cpp, GGUF version 3, without another package.

Source: the format's specification, docs/gguf.md of ggml-org/ggml, and the
blocks of its `ggml-common.h`.
"""

import math
import struct

import numpy as np

BLOCK = 32
STRING, ARRAY = 8, 9
# Of the scalars, by the number of their kind.
SCALARS = dict(enumerate(["B", "b", "H", "h", "I", "i", "f", "?"])) | {
    10: "Q",
    11: "q",
    12: "d",
}
F32, Q4_1, Q8_0 = 0, 3, 8


def read_gguf(path):
    """Settings by name, and tensors as float32 in NumPy's order of axes."""
    data = np.memmap(path, "uint8", "r")
    reader = _Reader(data)
    if reader.take("4s") != b"GGUF" or reader.take("I") != 3:
        raise ValueError(f"{path} is no GGUF file of version 3")
    num_tensors, num_settings = reader.take("Q"), reader.take("Q")
    settings = {}
    for _ in range(num_settings):
        name = reader.string()
        settings[name] = reader.value(reader.take("I"))
    tensors = []
    for _ in range(num_tensors):
        name, rank = reader.string(), reader.take("I")
        shape = [reader.take("Q") for _ in range(rank)]
        tensors.append((name, shape[::-1], reader.take("I"), reader.take("Q")))
    alignment = settings.get("general.alignment", 32)
    start = -(-reader.place // alignment) * alignment
    return settings, {
        name: _dequantized(data[start + offset :], shape, kind)
        for name, shape, kind, offset in tensors
    }


class _Reader:
    def __init__(self, data):
        self.data, self.place = data, 0

    def take(self, kind):
        size = struct.calcsize("<" + kind)
        piece = self.data[self.place : self.place + size].tobytes()
        self.place += size
        return struct.unpack("<" + kind, piece)[0]

    def string(self):
        return self.take(f"{self.take('Q')}s").decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.take("I"), self.take("Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(SCALARS[kind])


def _dequantized(data, shape, kind):
    count = math.prod(shape)
    if kind == F32:
        return data[: 4 * count].view("<f4").reshape(shape).copy()
    halves, codes = {Q4_1: (2, BLOCK // 2), Q8_0: (1, BLOCK)}[kind]
    size = 2 * halves + codes
    rows = np.array(data[: count // BLOCK * size]).reshape(-1, size)
    factors = rows[:, : 2 * halves].copy().view("<f2").astype("float32")
    rows = rows[:, 2 * halves :]
    if kind == Q8_0:
        return (rows.view("int8") * factors).reshape(shape)
    # The low halves of the bytes first, then the high ones.
    values = np.concatenate([rows & 15, rows >> 4], axis=1)
    return (values * factors[:, :1] + factors[:, 1:]).reshape(shape)
