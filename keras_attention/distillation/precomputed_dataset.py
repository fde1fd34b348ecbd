from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.distillation.precomputed import with_targets
from keras_attention.distillation.teacher_records import FINGERPRINT
from keras_attention.distillation.teacher_records import check_examples
from keras_attention.distillation.teacher_records import fingerprints


class PrecomputedDataset(keras.utils.PyDataset):
    """Batches that carry what the teacher said about their examples.

    Made by `precompute_teacher`; given to the `fit` of an
    `AttentionTransferModel`, whose `evaluate` and `predict` take it too.

    Args:
        source: batches `(x,)`, `(x, y)` or `(x, y, sample_weight)` by number.
        records: one record for each example, in the order of the batches.
        starts: the number of the first example of each batch, and the number
            of examples at the end.
    """

    def __init__(
        self,
        source: "Sequence[Any] | keras.utils.PyDataset | ArrayBatches",
        records: np.ndarray,
        starts: Sequence[int],
    ):
        super().__init__()
        self.source = source
        self.records = records
        self.starts = list(starts)

    @property
    def num_batches(self) -> int:
        """The number of batches of an epoch."""
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> tuple:
        batch = self.source[index]
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        if isinstance(self.source, ArrayBatches):
            chosen = self.source.examples(index)
        else:
            chosen = slice(self.starts[index], self.starts[index + 1])
        records = self.records[chosen]
        check_examples(records, fingerprints(x))
        x = with_targets(x, targets_of(records))
        if y is None:
            return (x,)
        return keras.utils.pack_x_y_sample_weight(x, y, weight)

    def on_epoch_end(self) -> None:
        """Have the source prepare its next epoch."""
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


class ArrayBatches:
    """Arrays as batches, in a new order each epoch if wanted.

    Args:
        arrays: `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        batch_size: examples of a batch.
        shuffle: whether each epoch has an order of its own. The first epoch
            is in order until `on_epoch_end` is called.
        seed: of the orders.
    """

    def __init__(
        self,
        arrays: tuple,
        batch_size: int,
        shuffle: bool = False,
        seed: int | None = None,
    ):
        self.arrays = keras.tree.map_structure(np.asarray, arrays)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self._random = np.random.default_rng(seed)
        self.order = np.arange(len(keras.tree.flatten(self.arrays)[0]))

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple:
        chosen = self.examples(index)
        return keras.tree.map_structure(lambda x: x[chosen], self.arrays)

    def examples(self, index: int) -> np.ndarray:
        """The numbers of the examples of a batch."""
        start = index * self.batch_size
        return self.order[start : start + self.batch_size]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        if self.shuffle:
            self._random.shuffle(self.order)


def targets_of(records: np.ndarray) -> dict[str, np.ndarray]:
    """The maps and logits of records, by name."""
    return {
        name: np.ascontiguousarray(records[name])
        for name in records.dtype.names
        if name != FINGERPRINT
    }
