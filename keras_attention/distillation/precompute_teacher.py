"""Runs a teacher once for a whole data set, so that it leaves the loop."""

import os
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.distillation.pairs import pair_names
from keras_attention.distillation.precomputed import with_targets
from keras_attention.distillation.precomputed_dataset import ArrayBatches
from keras_attention.distillation.precomputed_dataset import PrecomputedDataset
from keras_attention.distillation.precomputed_dataset import targets_of
from keras_attention.distillation.reader import Reader
from keras_attention.distillation.teacher_records import RecordsInMemory
from keras_attention.distillation.teacher_records import RecordsOnDisk
from keras_attention.distillation.teacher_records import check_examples
from keras_attention.distillation.teacher_records import fingerprints
from keras_attention.distillation.teacher_records import make_records
from keras_attention.distillation.teacher_records import teacher_fingerprint
from keras_attention.ops.attention_maps import MAP_FUNCTIONS
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


def precompute_teacher(
    teacher: keras.Model,
    dataset: Any,
    pairs: Sequence[Any],
    power: float = 2,
    map_function: str = "sum",
    logits: bool | str = False,
    path: str | os.PathLike | None = None,
    batch_size: int = 32,
    shuffle: bool | None = None,
    seed: int | None = None,
    verbose: bool = True,
) -> Any:
    """Run the teacher for each example; return data that carry what it said.

    What is returned trains an `AttentionTransferModel` made with
    `teacher=None` and the same pairs, map function and power, in the time of
    the student alone. Maps are kept in float32: 1,344 numbers for an image of
    CIFAR at the three groups of a wide residual network.

    A `keras.utils.PyDataset` and a `tf.data.Dataset` are read batch by batch.
    With `path`, what the teacher said is not kept in memory either, so that
    data may outgrow it.

    The examples must be the same each time the data set is gone through; each
    is compared, by a fingerprint of its inputs, with the one that the teacher
    saw. So a data set that shuffles or augments by itself is refused when it
    is used. Shuffle afterwards: arrays are, by `shuffle`, and the
    `tf.data.Dataset` that is returned can be.

    Args:
        teacher: a built model.
        dataset: arrays `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`; a
            `keras.utils.PyDataset` or a list of such batches; or a batched
            `tf.data.Dataset`.
        pairs: the `pairs` of an `AttentionTransferModel`, or a list of
            `(student, teacher)` names; an empty one for logits alone.
        power: p of the map function.
        map_function: `"sum"` or `"max"`.
        logits: whether the outputs are kept too, for distillation; or the
            name of the layer that has the logits.
        path: file to keep everything in; `None` for memory. If it exists, it
            is taken as it is; if an earlier run was killed, it goes on from
            there.
        batch_size: of arrays.
        shuffle: whether arrays are put into a new order after each epoch;
            `None` for `True`. Not for data that come in batches.
        seed: of the orders.
        verbose: whether to show a progress bar.

    Returns:
        A `PrecomputedDataset`, or a `tf.data.Dataset` for such a one.

    Raises:
        TypeError, ValueError: for arguments of the wrong type or range, a
            data set with other examples than before, a file of another
            teacher or data set, or one that is cut short.

    Example:

    >>> from keras_attention.distillation import precompute_teacher
    >>> from keras_attention.models import WideResNet
    >>> teacher = WideResNet(16, 2, input_shape=(8, 8, 1))
    >>> student = WideResNet(10, 1, input_shape=(8, 8, 1))
    >>> x, y = np.ones((4, 8, 8, 1), "float32"), np.zeros(4, "int32")
    >>> data = precompute_teacher(
    ...     teacher, (x, y), ["stage2", "stage3"], verbose=False
    ... )
    >>> model = keras_attention.AttentionTransferModel(
    ...     student, teacher=None, pairs=["stage2", "stage3"]
    ... )
    >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> history = model.fit(data, verbose=0)
    """
    taps = [teacher_tap for _, teacher_tap, _ in pair_names(pairs)]
    reader = Reader(
        teacher,
        taps,
        check_choice("map_function", map_function, MAP_FUNCTIONS),
        check_number("power", power, 1),
        None if logits is True else logits,
    )
    check_boolean("verbose", verbose)
    source = _source(
        dataset,
        check_positive_integer("batch_size", batch_size),
        shuffle,
        seed,
    )
    store = RecordsInMemory()
    if path is not None:
        settings = [reader.map_name(tap) for tap in reader.map_taps], logits
        store = RecordsOnDisk(path, teacher_fingerprint(teacher, settings))
    starts = _run(reader, source, store, verbose)
    records = store.finish()
    if isinstance(source, ArrayBatches):
        source.on_epoch_end()
    if hasattr(source, "element_spec"):
        return _join(source, records)
    return PrecomputedDataset(source, records, starts)


class TeacherPass(keras.Model):
    """Reads a teacher; a model, so that its `predict` is compiled."""

    def __init__(self, reader: Reader):
        super().__init__(dtype=reader.model.dtype_policy, autocast=False)
        self.teacher = reader.model
        self.reader = reader

    def call(self, inputs):
        return self.reader.read(inputs)


def _source(dataset, batch_size, shuffle, seed):
    """Batches of whatever was given."""
    batches = isinstance(dataset, keras.utils.PyDataset | list) or hasattr(
        dataset, "element_spec"
    )
    if shuffle is not None:
        check_boolean("shuffle", shuffle)
    if batches:
        if shuffle:
            raise ValueError(
                "Data that come in batches keep their order here: shuffle "
                "what is returned, or give arrays. Received: shuffle=True"
            )
        return dataset
    arrays = dataset if isinstance(dataset, tuple) else (dataset,)
    leaves = keras.tree.flatten(arrays)
    if not leaves or not all(hasattr(leaf, "__array__") for leaf in leaves):
        raise TypeError(
            "`dataset` must be arrays `(x, y)`, a keras.utils.PyDataset, a "
            "list of batches or a batched tf.data.Dataset. Received: dataset "
            f"of type {type(dataset).__name__}"
        )
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) != 1:
        raise ValueError(
            "The arrays of `dataset` must have as many examples each. "
            f"Received: arrays of {sorted(lengths)} examples"
        )
    return ArrayBatches(arrays, batch_size, shuffle in (None, True), seed)


def _batches(source) -> Iterator[Any]:
    if hasattr(source, "element_spec"):
        yield from source
        return
    count = getattr(source, "num_batches", None)
    for index in range(len(source) if count is None else count):
        yield source[index]


def _run(reader, source, store, verbose):
    """Have the teacher say what is not known yet; return where batches start.

    What an earlier run has left is compared with the data and kept.
    """
    run = TeacherPass(reader)
    progress = keras.utils.Progbar(_length(source), verbose=int(verbose))
    starts = [0]
    for batch in _batches(source):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        x = keras.tree.map_structure(np.asarray, x)
        marks = fingerprints(x)
        start, end = starts[-1], starts[-1] + len(marks)
        if end <= len(store.done):
            check_examples(store.done[start:end], marks)
        elif getattr(store, "finished", False):
            raise ValueError(
                f"The file '{store.path}' was written for fewer examples. "
                f"Received: a data set with more than {len(store.done)}"
            )
        else:
            if start < len(store.done):
                store.keep(start)
            store.append(make_records(marks, run.predict_on_batch(x)))
        starts.append(end)
        progress.add(1)
    if starts[-1] == 0:
        raise ValueError("`dataset` has no example. Received: an empty one")
    if starts[-1] < len(store.done):
        raise ValueError(
            "The file was written for more examples. Received: a data set "
            f"with {starts[-1]}, for a file with {len(store.done)}"
        )
    return starts


def _length(source):
    if hasattr(source, "element_spec"):
        count = int(source.cardinality())
        return count if count > 0 else None
    count = getattr(source, "num_batches", None)
    return len(source) if count is None else count


def _join(dataset, records):
    """Put the records beside the batches of a `tf.data.Dataset`."""
    import tensorflow as tf

    names = [name for name in records.dtype.names if name != "fingerprint"]

    def look_up(start, *leaves):
        marks = fingerprints(list(leaves))
        found = records[int(start) : int(start) + len(marks)]
        check_examples(found, marks)
        targets = targets_of(found)
        return [targets[name] for name in names]

    def number(start, batch):
        first = keras.tree.flatten(batch)[0]
        return start + tf.shape(first, tf.int64)[0], (start, batch)

    def join(start, batch):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        leaves = keras.tree.flatten(x)
        values = tf.numpy_function(
            look_up, [start, *leaves], [tf.float32] * len(names)
        )
        for name, value in zip(names, values, strict=True):
            value.set_shape((leaves[0].shape[0], *records.dtype[name].shape))
        targets = dict(zip(names, values, strict=True))
        return keras.utils.pack_x_y_sample_weight(
            with_targets(x, targets), y, weight
        )

    start = tf.constant(0, tf.int64)
    return dataset.scan(start, number).map(join)
