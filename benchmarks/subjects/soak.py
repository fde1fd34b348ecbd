"""Thousands of requests from several clients; right answers, flat memory.

The tests' model server loads exports through TensorFlow's C API. Threads ask
it over gRPC and REST for all signatures, wrong requests among them, while new
versions of the model appear. Every answer is compared with the model's own.
"""

import collections
import io
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import keras
import numpy as np
from PIL import Image
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness.report import Table
from keras_attention.serving import AttentionSignature
from keras_attention.serving import ImageBytesSignature
from keras_attention.serving import ServingClient
from keras_attention.serving import ServingError
from keras_attention.serving import export_for_serving
from keras_attention.serving import run_export

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
from serving.server_process import ServerProcess  # noqa: E402

TITLE = "Serving: a soak"
THREADS = 4
VERSIONS = 5
MEGABYTE = 1 << 20
# Memory that the second half of the requests may add.
ALLOWED = 20 * MEGABYTE


def run(quick: bool = False) -> list[Table]:
    total = 400 if quick else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        first, requests = _export(folder)
        with ServerProcess(folder, {"m": folder / "m"}) as server:
            soak = _Soak(server, requests, total)
            start = time.perf_counter()
            threads = [
                threading.Thread(target=soak.ask, args=(number,))
                for number in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            samples = soak.watch(first, threads)
            seconds = time.perf_counter() - start
    if soak.errors:
        raise RuntimeError(f"{len(soak.errors)} failed: {soak.errors[0]!r}")
    if soak.counts["versions"] != VERSIONS:
        raise RuntimeError("The server did not take up every version.")
    half = [memory for share, memory in samples if share >= 0.5]
    growth = max(half[-1] - half[0], 0)
    if growth > ALLOWED and not quick:
        raise RuntimeError(f"The server grew by {growth / MEGABYTE:.0f} MB.")
    return [_table(soak, samples, seconds)]


class _Soak:
    def __init__(self, server, requests, total):
        self.server, self.requests, self.total = server, requests, total
        self.errors = []
        self.counts = collections.Counter()
        self.lock = threading.Lock()

    def ask(self, number):
        protocol = ("grpc", "rest")[number % 2]
        generator = np.random.default_rng(number)
        with ServingClient(
            "127.0.0.1", self.server.ports[protocol], protocol, 60
        ) as client:
            while not self.errors and self._count("requests") <= self.total:
                kind = generator.integers(len(self.requests))
                signature, inputs, expected = self.requests[kind]
                try:
                    answer = client.predict("m", inputs, signature)
                except ServingError as error:
                    right = expected is None and str(error)
                    self._count("refused")
                except Exception as error:
                    self.errors.append(error)
                    return
                else:
                    right = expected is not None and _equal(answer, expected)
                self._count(f"{protocol} {signature}")
                if not right:
                    self.errors.append(
                        ValueError(f"wrong answer of '{signature}'")
                    )

    def watch(self, first, threads):
        """Memory by share of the requests, with new versions on the way."""
        samples = []
        progress = tqdm(total=self.total, desc="requests")
        while any(thread.is_alive() for thread in threads):
            done = min(self.counts["requests"], self.total)
            progress.update(done - progress.n)
            # All well within the first half, whose growth is not counted.
            wanted = int(2.5 * VERSIONS * done / self.total)
            if self.counts["versions"] < min(wanted, VERSIONS):
                _next_version(first, 2 + self.counts["versions"])
                self._count("versions")
            samples.append(
                (done / self.total, _memory(self.server.process.pid))
            )
            time.sleep(0.2)
        progress.close()
        with ServingClient("127.0.0.1", self.server.ports["grpc"]) as client:
            found = client.status("m")
        newest = 1 + self.counts["versions"]
        if found[newest]["state"] != "AVAILABLE":
            self.errors.append(RuntimeError(f"versions: {found}"))
        return samples

    def _count(self, name):
        with self.lock:
            self.counts[name] += 1
            return self.counts[name]


def _export(folder):
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(16, 3, activation="relu", name="conv")(image)
    x = ka.CBAM(4, name="cbam")(ka.SqueezeExcite(4, name="se")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
    path = export_for_serving(
        model,
        folder / "m",
        signatures={
            "attention": AttentionSignature(["conv", "se:gate"]),
            "image_bytes": ImageBytesSignature((24, 24)),
        },
    )
    generator = np.random.default_rng(0)
    requests = []
    for batch, height, width in ((1, 32, 32), (3, 17, 29), (8, 24, 24)):
        x = generator.normal(size=(batch, height, width, 3)).astype("float32")
        for signature in ("serving_default", "attention"):
            requests.append((signature, {"image": x}))
        pixels = generator.integers(256, size=(height, width, 3), dtype="uint8")
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        requests.append(("image_bytes", {"image_bytes": [file.getvalue()]}))
    expected = [run_export(path, inputs, name) for name, inputs in requests]
    right = [(*r, e) for r, e in zip(requests, expected, strict=True)]
    wrong = [
        ("serving_default", {"image": np.ones((2, 9, 9, 2), "float32")}, None),
        ("serving_default", {"image": np.ones((9, 9, 3), "float32")}, None),
        ("image_bytes", {"image_bytes": [b"no image" * 1000]}, None),
    ]
    return path, right + wrong


def _next_version(first, number):
    temporary = first.parent / f".writing-{number}"
    shutil.copytree(first, temporary)
    temporary.rename(first.parent / str(number))


def _equal(answer, expected):
    return set(answer) == set(expected) and all(
        np.allclose(answer[name], value, rtol=1e-4, atol=1e-5)
        for name, value in expected.items()
    )


def _memory(pid):
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def _table(soak, samples, seconds):
    counts = soak.counts
    kinds = ", ".join(
        f"{name} {count:,}"
        for name, count in sorted(counts.items())
        if " " in name
    )
    table = Table(
        ["share of the requests", "the server's memory, MB"],
        f"{soak.total:,} requests in {seconds:.0f} s by {THREADS} clients "
        f"({kinds}); {counts['refused']:,} of them were wrong and refused, "
        f"every other answer was right. {counts['versions']} new versions "
        "appeared in the first half.",
    )
    for percent in (0, 10, 25, 50, 75, 100):
        share, memory = min(
            samples, key=lambda sample: abs(sample[0] - percent / 100)
        )
        table.add(f"{share:.0%}", f"{memory / MEGABYTE:.0f}")
    return table
