"""Runs a teacher once for a data set, so that it leaves the training loop."""

import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_attention.distillation.attention_transfer_model import (
    AttentionTransferModel,
)
from keras_attention.distillation.model_reader import ModelReader
from keras_attention.distillation.objectives.attention_maps import AttentionMaps
from keras_attention.distillation.objectives.logits import Logits
from keras_attention.distillation.pairs import pair_names
from keras_attention.distillation.precomputed_dataset import ArrayBatches
from keras_attention.distillation.precomputed_dataset import PrecomputedDataset
from keras_attention.distillation.precomputed_dataset import Views
from keras_attention.distillation.teacher_cache import FINGERPRINT
from keras_attention.distillation.teacher_cache import RecordsInMemory
from keras_attention.distillation.teacher_cache import RecordsOnDisk
from keras_attention.distillation.teacher_cache import check_examples
from keras_attention.distillation.teacher_cache import fingerprints
from keras_attention.distillation.teacher_cache import make_records
from keras_attention.distillation.teacher_cache import targets_of
from keras_attention.distillation.teacher_cache import teacher_fingerprint
from keras_attention.distillation.teacher_cache import with_targets
from keras_attention.ops.attention_maps import MAP_FUNCTIONS
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


def precompute_teacher(
    teacher: keras.Model,
    dataset: Any,
    pairs: Sequence[Any] | None = None,
    power: float = 2,
    map_function: str = "sum",
    logits: bool | str = False,
    path: str | os.PathLike | None = None,
    batch_size: int = 32,
    shuffle: bool | None = None,
    seed: int | None = None,
    verbose: bool = True,
    augment: Callable[[Any, np.random.Generator], Any] | None = None,
    views: int = 1,
) -> Any:
    """Runs the teacher for each example; returns data with its outputs.

    What is returned trains an `AttentionTransferModel` in the time of the
    student alone. With that model as the first argument, everything that its
    losses compare is kept. With a teacher, maps and outputs are kept as the
    arguments say, for a model made with `teacher=None` and the same pairs, map
    function and power. Maps are kept in float32: 1,344 numbers for an image
    of CIFAR at the three groups of a wide residual network.

    A `keras.utils.PyDataset` and a `tf.data.Dataset` are read batch by batch.
    With `path`, the teacher's outputs are not kept in memory either, so that
    data may exceed it.

    The examples must be the same each time the data set is iterated over;
    each is compared, by a fingerprint of its inputs, with the one that the
    teacher saw. So a data set that shuffles or augments by itself is refused
    when it is used. Shuffle afterwards: arrays are, by `shuffle`, and the
    `tf.data.Dataset` that is returned can be. Augment with `augment`: the
    teacher sees `views` augmented views of each example, and the epochs of
    training go through the same views again, one after the other.

    Args:
        teacher: A built model, or an `AttentionTransferModel` with its
            teacher.
        dataset: Arrays `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`; a
            `keras.utils.PyDataset` or a list of such batches; or a batched
            `tf.data.Dataset`.
        pairs: The `pairs` of an `AttentionTransferModel`, or a list of
            `(student, teacher)` names; an empty one for outputs alone. Only
            with a teacher as the first argument, as the next three.
        power: p of the map function. Defaults to 2.
        map_function: `"sum"` or `"max"`. Defaults to `"sum"`.
        logits: Whether the outputs are kept too, for distillation; or the
            name of the layer that has the logits. Defaults to `False`.
        path: File to keep everything in. If it exists, it is used as it is;
            if an earlier run was interrupted, it is continued. Defaults to
            `None`, memory.
        batch_size: Batch size of arrays. Defaults to 32.
        shuffle: Whether arrays are put into a new order after each epoch. Not
            for data that come in batches. Defaults to `None`, which is `True`
            for arrays.
        seed: Seed of the orders and of `augment`. Defaults to `None`, which
            is 0 for `augment`.
        verbose: Whether to show a progress bar. Defaults to `True`.
        augment: Function of the inputs of one example and a
            `numpy.random.Generator` that returns augmented inputs of the same
            shape. The generator is seeded by the view and the number of the
            example, so that a view can be repeated exactly. Not for
            `tf.data.Dataset`. Defaults to `None`.
        views: Number of augmented views of each example. Defaults to 1.

    Returns:
        A `PrecomputedDataset`, or a `tf.data.Dataset` for such a one.

    Raises:
        TypeError: For arguments of the wrong type.
        ValueError: For arguments out of range, a data set with other examples
            than before, a file of another teacher or data set, or one that is
            truncated.

    Example:

    >>> from keras_attention.distillation import precompute_teacher
    >>> from keras_attention.models import WideResNet
    >>> teacher = WideResNet(16, 2, input_shape=(8, 8, 1))
    >>> student = WideResNet(10, 1, input_shape=(8, 8, 1))
    >>> model = keras_attention.AttentionTransferModel(student, teacher)
    >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> x, y = np.ones((4, 8, 8, 1), "float32"), np.zeros(4, "int32")
    >>> data = precompute_teacher(
    ...     model,
    ...     (x, y),
    ...     augment=lambda x, random: np.roll(x, random.integers(3), axis=0),
    ...     views=2,
    ...     verbose=False,
    ... )
    >>> history = model.fit(data, epochs=2, verbose=0)
    """
    passes, settings = _passes(teacher, pairs, power, map_function, logits)
    check_boolean("verbose", verbose)
    source = _source(
        dataset,
        check_positive_integer("batch_size", batch_size),
        shuffle,
        seed,
    )
    check_positive_integer("views", views)
    if augment is None and views != 1:
        raise ValueError(
            "`views` is the number of augmented views, so it needs `augment`. "
            f"Received: views={views} with augment=None"
        )
    if augment is not None:
        if not callable(augment):
            raise TypeError(
                "`augment` must be a function of one example and a "
                f"numpy.random.Generator. Received: augment={augment!r}"
            )
        if hasattr(source, "element_spec"):
            raise ValueError(
                "`augment` is for arrays and a keras.utils.PyDataset, whose "
                "batches can be read again. Received: a tf.data.Dataset"
            )
        settings = *settings, views, seed or 0
    augmented = Views(augment, views, seed or 0)
    store = RecordsInMemory()
    if path is not None:
        mark = "".join(
            teacher_fingerprint(each.model, settings) for each in passes
        )
        store = RecordsOnDisk(path, mark)
    starts = _run(passes, source, augmented, store, verbose)
    records = store.finish()
    if isinstance(source, ArrayBatches):
        source.on_epoch_end()
    if hasattr(source, "element_spec"):
        return _join(source, records)
    return PrecomputedDataset(source, records, starts, augmented)


class TeacherPass(keras.Model):
    """Reads a teacher; a model, so that its `predict` is compiled.

    Args:
        reader: Reader of the teacher.
        extract: Returns what is kept of a reading.
        prefix: Put before each name.
    """

    def __init__(
        self,
        reader: ModelReader,
        extract: Callable[[Any], dict[str, Any]],
        prefix: str = "",
    ):
        super().__init__(dtype=reader.model.dtype_policy, autocast=False)
        self.model = reader.model
        self.reader = reader
        self.extract = extract
        self.prefix = prefix

    def call(self, inputs: Any):
        found = self.reader.read(inputs, self.extract)
        return {self.prefix + name: value for name, value in found.items()}


def _passes(teacher, pairs, power, map_function, logits):
    """What runs each teacher, and what it is asked for."""
    if isinstance(teacher, AttentionTransferModel):
        return _passes_of_model(teacher, pairs, logits)
    names = pair_names([] if pairs is None else pairs)
    maps = [(theirs, theirs) for _, theirs, _ in names]
    check_choice("map_function", map_function, MAP_FUNCTIONS)
    check_number("power", power, 1)
    reader, objectives = ModelReader(teacher), []
    if maps:
        maps = list(dict.fromkeys(maps))
        objectives.append(AttentionMaps(1.0, maps, power, map_function))
    if logits is not False:
        layers = None if logits is True else logits
        objectives.append(Logits(layers=layers))
    if not objectives:
        raise ValueError(
            "There is nothing to precompute. Received: pairs="
            f"{pairs!r} and logits={logits!r}. Give the AttentionTransferModel "
            "that is to be trained, or `pairs` or `logits`."
        )
    bound = [objective.bind(reader, reader) for objective in objectives]

    def extract(reading):
        found = {}
        for objective in bound:
            found.update(objective.read_teacher(reading))
        return found

    settings = (
        [f"{name} {map_function}^{power:g}" for name, _ in maps],
        logits,
    )
    return [TeacherPass(reader, extract)], settings


def _passes_of_model(model, pairs, logits):
    if pairs is not None or logits is not False:
        raise ValueError(
            "With an AttentionTransferModel, what is kept is what its losses "
            f"compare. Received: pairs={pairs!r}, logits={logits!r}. Leave "
            "them out."
        )
    readers = model.bound_objectives.teacher_readers
    if not readers:
        raise ValueError(
            "The model has no teacher to run. Received: an "
            "AttentionTransferModel with teacher=None"
        )
    if model.bound_objectives.compares_teacher_gradients:
        raise ValueError(
            "Gradient-based transfer needs the teacher in every step, so it "
            "cannot be precomputed. Received: a model with InputGradients"
        )
    several = len(readers) > 1
    passes = [
        TeacherPass(
            reader,
            partial(model.bound_objectives.read_teacher, number),
            f"{number}|" if several else "",
        )
        for number, reader in enumerate(readers)
    ]
    settings = [repr(sorted(o.get_config().items())) for o in model.objectives]
    return passes, (settings, str(model.pairs))


def _source(dataset, batch_size, shuffle, seed):
    """Returns batches of whatever was given."""
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


def _run(passes, source, augmented, store, verbose):
    """Runs the teachers for what is not known yet.

    What an earlier run has left is compared with the data and kept.

    Returns:
        Where each batch starts among the records of a view, and their number.
    """
    length = _length(source)
    progress = keras.utils.Progbar(
        None if length is None else length * augmented.count,
        verbose=int(verbose),
    )
    end, starts = 0, [0]
    for view in range(augmented.count):
        for number, batch in enumerate(_batches(source)):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
            x = keras.tree.map_structure(np.asarray, x)
            count = len(keras.tree.flatten(x)[0])
            if view == 0:
                starts.append(starts[-1] + count)
            examples = np.arange(starts[number], starts[number + 1])
            x = augmented.apply(x, examples, view)
            start, end = end, end + count
            _read_batch(passes, x, start, end, store)
            progress.add(1)
    if end == 0:
        raise ValueError("`dataset` has no example. Received: an empty one")
    if end < len(store.done):
        raise ValueError(
            "The file was written for more examples. Received: a data set "
            f"with {end}, for a file with {len(store.done)}"
        )
    return starts


def _read_batch(passes, x, start, end, store):
    marks = fingerprints(x)
    if end <= len(store.done):
        check_examples(store.done[start:end], marks)
        return
    if getattr(store, "finished", False):
        raise ValueError(
            f"The file '{store.path}' was written for fewer examples. "
            f"Received: a data set with more than {len(store.done)}"
        )
    if start < len(store.done):
        store.keep(start)
    found = {}
    for each in passes:
        found.update(each.predict_on_batch(x))
    store.append(make_records(marks, found))


def _length(source):
    if hasattr(source, "element_spec"):
        count = int(source.cardinality())
        return count if count > 0 else None
    count = getattr(source, "num_batches", None)
    return len(source) if count is None else count


def _join(dataset, records):
    """Joins the records to the batches of a `tf.data.Dataset`."""
    import tensorflow as tf

    names = [name for name in records.dtype.names if name != FINGERPRINT]

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
