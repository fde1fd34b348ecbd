"""Training from TFRecord shards that are larger than the memory allowed.

Each line of the table is a process of its own. When it has taken one step of
everything, so that TensorFlow has what it needs for itself, the kernel allows
its data segment (RLIMIT_DATA: the heap and all private memory) a quarter of
the size of the data set more, and no more. Linux only.
"""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness.memory import _status
from benchmarks.harness.report import Table
from benchmarks.harness.worker import plain_environment
from keras_attention import AttentionTransferModel
from keras_attention.distillation import precompute_teacher

TITLE = "Data larger than memory"
SHAPE, BATCH, SHARDS = (96, 96, 3), 32, 8
PAIRS = ["stage"]
# Bytes, in addition to what a process has after one step.
ALLOWED = 256 * 2**20
OUT_OF_MEMORY = 3  # The exit status of such a process.
# In the order in which they run: the later ones use the files of the earlier.
MODES = {
    "arrays": "all images as an array (must fail)",
    "precompute": "the teacher, once, to a file",
    "train": "a student by that file and the TFRecord shards",
    "save": "both joined, saved as shards of tf.data",
    "shards": "a student by those shards, shuffled, read in parallel",
}
# Running out of memory takes longest; what is saved has been trained on.
QUICK_LEAVES_OUT = ("arrays", "train")


def run(quick: bool = False) -> list[Table]:
    size = (384 if quick else 1024) * 2**20
    images = size // (4 * int(np.prod(SHAPE)))
    table = Table(
        ["what", "ended", "s", "images/s"],
        f"{images} images {SHAPE}, {size >> 20} MiB in {SHARDS} TFRecord "
        f"shards; every process may take {ALLOWED >> 20} MiB more than it had "
        "after its first step.",
    )
    with tempfile.TemporaryDirectory() as folder:
        write_records(pathlib.Path(folder), images)
        for mode, text in MODES.items():
            if quick and mode in QUICK_LEAVES_OUT:
                continue
            seconds = measure(mode, folder)
            if (seconds is None) != (mode == "arrays"):
                ended = "out of memory" if seconds is None else "well"
                raise RuntimeError(f"'{text}' ended: {ended}")
            if seconds is None:
                table.add(text, "out of memory", "", "")
            else:
                rate = f"{images / seconds:,.0f}"
                table.add(text, "well", f"{seconds:.1f}", rate)
    return [table]


def write_records(folder: pathlib.Path, images: int) -> None:
    """Write images of noise and their labels into TFRecord shards."""
    random = np.random.default_rng(0)
    for shard in range(SHARDS):
        path = folder / f"images-{shard}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(shard, images, SHARDS):
                image = random.random(SHAPE, "float32")
                example = tf.train.Example()
                feature = example.features.feature
                feature["image"].bytes_list.value.append(image.tobytes())
                feature["label"].int64_list.value.append(random.integers(10))
                writer.write(example.SerializeToString())


def read_records(folder: pathlib.Path) -> tf.data.Dataset:
    """Read them, several files at a time, in the same order every time."""

    def parse(record):
        example = tf.io.parse_single_example(
            record,
            {
                "image": tf.io.FixedLenFeature((), tf.string),
                "label": tf.io.FixedLenFeature((), tf.int64),
            },
        )
        image = tf.io.decode_raw(example["image"], tf.float32)
        return tf.reshape(image, SHAPE), example["label"]

    files = tf.data.Dataset.list_files(f"{folder}/*.tfrecord", shuffle=False)
    records = files.interleave(
        tf.data.TFRecordDataset,
        cycle_length=4,
        num_parallel_calls=4,
        deterministic=True,
    )
    return records.map(parse, num_parallel_calls=2).batch(BATCH).prefetch(1)


def measure(mode: str, folder: str) -> float | None:
    """Seconds that a mode takes in a process; `None` if memory ran out."""
    result = subprocess.run(
        [sys.executable, "-m", __name__, mode, folder],
        capture_output=True,
        text=True,
        # Freed memory goes back to the kernel instead of to a thread's heap.
        env={**plain_environment(), "MALLOC_ARENA_MAX": "2"},
    )
    if result.returncode:
        # Where there is no memory for Python's exception, C++ says it, or
        # touches what it was refused.
        words = ("MemoryError", "bad_alloc", "OOM", "mmap error")
        if result.returncode in (OUT_OF_MEMORY, -signal.SIGSEGV) or any(
            word in result.stderr for word in words
        ):
            return None
        raise RuntimeError(f"'{mode}' failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.split("\n")[-2])


def network(filters: int, name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(
        filters, 8, strides=8, activation="relu", name="stage"
    )(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(10, activation="softmax")(x)
    return keras.Model(inputs, x, name=name)


def _main(mode: str, folder: str) -> None:
    folder = pathlib.Path(folder)
    teacher = network(16, "teacher")
    model = AttentionTransferModel(network(8, "student"), None, PAIRS)
    model.compile("sgd", "sparse_categorical_crossentropy")

    def precompute(dataset, path):
        return precompute_teacher(
            teacher, dataset, PAIRS, path=path, verbose=False
        )

    # One step of everything, before the limit.
    dataset, shards = read_records(folder), folder / "shards"
    with tempfile.TemporaryDirectory() as temporary:
        first = precompute(dataset.take(2), pathlib.Path(temporary) / "first")
        save(first, f"{temporary}/shards")
        for batches in (first, load(f"{temporary}/shards")):
            fit(model, batches)
    limit = _status("VmData") + ALLOWED
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    start = time.perf_counter()
    try:
        if mode == "arrays":
            np.concatenate([x for x, _ in dataset.as_numpy_iterator()])
        elif mode == "shards":
            fit(model, load(shards))
        else:
            data = precompute(dataset, folder / "maps")
            if mode == "train":
                fit(model, data)
            elif mode == "save":
                save(data, str(shards))
    except (MemoryError, tf.errors.ResourceExhaustedError):
        os._exit(OUT_OF_MEMORY)  # A trace would need memory too.
    print(json.dumps(time.perf_counter() - start))


def fit(model: keras.Model, dataset: tf.data.Dataset) -> None:
    with warnings.catch_warnings():
        # Keras warns where it does not know the number of batches.
        warnings.simplefilter("ignore")
        model.fit(dataset, shuffle=False, verbose=0)


def save(dataset: tf.data.Dataset, path: str) -> None:
    """Save a batched data set by example, in as many shards."""
    dataset.unbatch().enumerate().save(
        str(path), shard_func=lambda number, _: number % SHARDS
    )


def load(path: str) -> tf.data.Dataset:
    """Load what `save` has written in an order of its own each time."""

    def read(shards):
        return shards.shuffle(SHARDS).interleave(
            lambda shard: shard, num_parallel_calls=4, deterministic=False
        )

    dataset = tf.data.Dataset.load(str(path), reader_func=read)
    dataset = dataset.map(lambda _, example: example)
    return dataset.shuffle(4 * BATCH).batch(BATCH).prefetch(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])
