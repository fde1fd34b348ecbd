"""Images without labels, which a student learns from its teacher."""

import pathlib
from typing import Any

import keras
import numpy as np

from keras_attention.commands.image_data import ImageFolder
from keras_attention.commands.image_data import ImageFormat
from keras_attention.commands.image_data import count_images
from keras_attention.commands.image_data import load_arrays
from keras_attention.commands.image_data import scale_images
from keras_attention.datasets import UNLABELED
from keras_attention.datasets import random_passes
from keras_attention.image_files import SUFFIXES
from keras_attention.image_files import check_image
from keras_attention.image_files import is_image_file


def load_unlabeled(path: str, image_format: ImageFormat) -> Any:
    """Load images without their labels.

    Args:
        path: a folder of images, in folders or not; or an .npz file with
            `x_train` or `x`.
        image_format: what the images are made to be.

    Returns:
        An `ImageFolder`, or arrays `(x, y)`; each label is `UNLABELED`.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If it holds something else.
    """
    folder = pathlib.Path(path)
    if not folder.exists():
        raise FileNotFoundError(
            f"There is no such folder or file of images: {path}"
        )
    if not folder.is_dir():
        held = load_arrays(path)
        for name in ("x_train", "x"):
            if name in held:
                x = scale_images(path, held[name], image_format)
                return x, np.full(len(x), UNLABELED)
        raise ValueError(
            "The .npz file of --unlabeled must have the array x_train or x. "
            f"Received: {path} with {', '.join(held) or 'none'}"
        )
    files = sorted(f for f in folder.rglob("*") if is_image_file(f, folder))
    if not files:
        raise ValueError(
            f"There are no images ({', '.join(SUFFIXES)}) in {path}, the "
            "folder of --unlabeled."
        )
    for file in files:
        check_image(file)
    return ImageFolder(files, np.full(len(files), UNLABELED), image_format)


class MixedBatches(keras.utils.PyDataset):
    """Batches of labeled images, half of each without labels if there are.

    An epoch is a pass over the larger of the two sets; the images of the
    other one are repeated, each time in another order.

    Args:
        labeled: arrays `(x, y)`, or an `ImageFolder`.
        unlabeled: the same, or `None`.
        batch_size: number of images in a batch.
        steps: number of batches in an epoch.
        seed: seed of the order.
    """

    def __init__(
        self,
        labeled: Any,
        unlabeled: Any,
        batch_size: int,
        steps: int,
        seed: int,
    ):
        super().__init__(workers=2, max_queue_size=4)
        self.parts = [labeled]
        self.counts = [batch_size]
        if unlabeled is not None:
            self.parts.append(unlabeled)
            self.counts = [batch_size - batch_size // 2, batch_size // 2]
        self.steps = steps
        self._generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < self.steps:
            raise IndexError(f"There is no batch {index} of {self.steps}")
        batches = [
            _read(part, order[index])
            for part, order in zip(self.parts, self._orders, strict=True)
        ]
        x, y = map(np.concatenate, zip(*batches, strict=True))
        return x, y

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self._orders = [
            random_passes(
                count_images(part), self.steps * count, self._generator
            ).reshape(self.steps, count)
            for part, count in zip(self.parts, self.counts, strict=True)
        ]


class LabeledAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy of the images that have labels.

    Args:
        name: Name of the metric. Defaults to `"accuracy"`.
        **kwargs: Arguments of the base class.
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Count the images of a batch."""
        labeled = keras.ops.cast(
            keras.ops.not_equal(y_true, UNLABELED), "float32"
        )
        if sample_weight is not None:
            labeled *= sample_weight
        super().update_state(y_true, y_pred, labeled)


def steps_of(labeled: int, unlabeled: int, batch_size: int) -> int:
    """Return the number of batches of one pass over the larger set."""
    half = batch_size // 2
    return max(-(-labeled // (batch_size - half)), -(-unlabeled // half))


def _read(data, numbers):
    """The images and labels of some numbers."""
    if isinstance(data, ImageFolder):
        return data.read(numbers)
    x, y = data
    return x[numbers], y[numbers]
