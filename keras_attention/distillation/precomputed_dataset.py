from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_attention.distillation.teacher_cache import check_examples
from keras_attention.distillation.teacher_cache import fingerprints
from keras_attention.distillation.teacher_cache import targets_of
from keras_attention.distillation.teacher_cache import with_targets


@dataclass(frozen=True)
class Views:
    """Augmented views of examples that can be repeated exactly.

    Args:
        augment: Function of the inputs of one example and a generator.
            `None` for examples as they are.
        count: Number of views.
        seed: Seed of all views.
    """

    augment: Callable[[Any, np.random.Generator], Any] | None = None
    count: int = 1
    seed: int = 0

    def apply(self, x: Any, examples: np.ndarray, view: int) -> Any:
        """Returns the inputs of a batch in one view.

        Args:
            x: Inputs of the batch.
            examples: Number of each of its examples in the data set.
            view: Number of the view.

        Raises:
            ValueError: If the function returns inputs of another shape.
        """
        if self.augment is None:
            return x
        leaves = keras.tree.flatten(x)
        found = []
        for place, example in enumerate(examples):
            random = np.random.default_rng((self.seed, view, int(example)))
            one = keras.tree.pack_sequence_as(
                x, [np.asarray(leaf[place]) for leaf in leaves]
            )
            found.append(keras.tree.flatten(self.augment(one, random)))
        stacked = [np.stack(each) for each in zip(*found, strict=True)]
        for leaf, new in zip(leaves, stacked, strict=True):
            if new.shape != tuple(leaf.shape):
                raise ValueError(
                    "`augment` must return inputs of the shape that it was "
                    f"given. Received: shape {new.shape[1:]} for "
                    f"{tuple(leaf.shape[1:])}"
                )
        stacked = [
            new.astype(leaf.dtype)
            for leaf, new in zip(leaves, stacked, strict=True)
        ]
        return keras.tree.pack_sequence_as(x, stacked)


class PrecomputedDataset(keras.utils.PyDataset):
    """Batches with the outputs of the teacher for their examples.

    Made by `precompute_teacher`; given to the `fit` of an
    `AttentionTransferModel`, whose `evaluate` and `predict` accept it too.
    Each epoch is one view of the examples.

    Args:
        source: Batches `(x,)`, `(x, y)` or `(x, y, sample_weight)` by number.
        records: One record for each example and view, in the order of the
            batches.
        starts: The number of the first example of each batch, and the number
            of examples at the end.
        views: The augmented views. Defaults to the examples as they are.
    """

    def __init__(
        self,
        source: "Sequence[Any] | keras.utils.PyDataset | ArrayBatches",
        records: np.ndarray,
        starts: Sequence[int],
        views: Views | None = None,
    ):
        super().__init__()
        self.source = source
        self.records = records
        self.starts = list(starts)
        self.views = Views() if views is None else views
        self.view = 0

    @property
    def num_batches(self) -> int:
        """The number of batches of an epoch."""
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> tuple:
        batch = self.source[index]
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        x = keras.tree.map_structure(np.asarray, x)
        if isinstance(self.source, ArrayBatches):
            examples = self.source.examples(index)
        else:
            examples = np.arange(self.starts[index], self.starts[index + 1])
        x = self.views.apply(x, examples, self.view)
        records = self.records[self.view * self.starts[-1] + examples]
        check_examples(records, fingerprints(x))
        x = with_targets(x, targets_of(records))
        if y is None:
            return (x,)
        return keras.utils.pack_x_y_sample_weight(x, y, weight)

    def on_epoch_end(self) -> None:
        """Goes on to the next view, and has the source prepare its epoch."""
        self.view = (self.view + 1) % self.views.count
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


class ArrayBatches:
    """Arrays as batches, in a new order each epoch if wanted.

    Args:
        arrays: `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        batch_size: Number of examples of a batch.
        shuffle: Whether each epoch has an order of its own. The first epoch
            is in order until `on_epoch_end` is called.
        seed: Seed of the orders.
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
        """Returns the numbers of the examples of a batch."""
        start = index * self.batch_size
        return self.order[start : start + self.batch_size]

    def on_epoch_end(self) -> None:
        """Draws the order of the next epoch."""
        if self.shuffle:
            self._random.shuffle(self.order)
