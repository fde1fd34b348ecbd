"""The demo's images: who has which labels, and the batches of a training."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_attention.datasets import UNLABELED
from keras_attention.datasets import load_dataset
from keras_attention.datasets import random_passes
from keras_attention.demo.settings import Setting

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Images:
    """Images with values from 0 to 1, `(count, height, width, channels)`.

    Attributes:
        training: images and labels that the teacher is trained on.
        evaluation: images and labels that accuracies are measured on.
        class_names: the name of each class.
    """

    training: Arrays
    evaluation: Arrays
    class_names: list[str]


class Batches(keras.utils.PyDataset):
    """The batches of one training, the same for every row of a table.

    Images are taken in a new random order in every pass, moved by some pixels
    and mirrored. The draws depend on `seed` alone.

    Args:
        images: images and labels.
        batch_size: images in a batch.
        steps: number of batches.
        setting: what augmentation to apply.
        seed: seed of order and augmentation.
        labeled: numbers of the images that are used with their labels.
            Defaults to all.
        unlabeled: numbers of images that are used without labels. They are
            half of each batch. Defaults to none.
    """

    def __init__(
        self,
        images: Arrays,
        batch_size: int,
        steps: int,
        setting: Setting,
        seed: int,
        labeled: np.ndarray | None = None,
        unlabeled: np.ndarray | None = None,
    ):
        super().__init__()
        self.images, self.labels = images
        self.steps, self.shift = steps, setting.shift
        if labeled is None:
            labeled = np.arange(len(self.images))
        parts = [labeled] if unlabeled is None else [labeled, unlabeled]
        generator = np.random.default_rng([seed, 0])
        count = batch_size // len(parts)
        orders = [
            part[random_passes(len(part), steps * count, generator)]
            for part in parts
        ]
        orders = [order.reshape(steps, count) for order in orders]
        # For each step, the number of each image, how far it is moved, and
        # whether it is mirrored.
        self.draws = np.zeros((steps, count * len(parts), 4), "int64")
        self.draws[..., 0] = np.concatenate(orders, axis=1)
        generator = np.random.default_rng([seed, 1])
        shape = self.draws.shape[:2]
        self.draws[..., 1:3] = generator.integers(
            0, 2 * self.shift + 1, (*shape, 2)
        )
        if setting.flip:
            self.draws[..., 3] = generator.random(shape) < 0.5
        self.has_label = np.arange(shape[1]) < count

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        draws = self.draws[index]
        labels = np.where(self.has_label, self.labels[draws[:, 0]], UNLABELED)
        return self.augment(draws), labels

    def augment(self, draws: np.ndarray) -> np.ndarray:
        """Return the images of some draws, moved and mirrored."""
        numbers, down, right, mirrored = draws.T
        x = self.images[numbers]
        _, height, width, _ = x.shape
        pad = (self.shift, self.shift)
        padded = np.pad(x, ((0, 0), pad, pad, (0, 0)), mode="reflect")
        rows = down[:, None] + np.arange(height)
        columns = right[:, None] + np.arange(width)
        columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
        examples = np.arange(len(x))[:, None, None]
        return padded[examples, rows[:, :, None], columns[:, None]]


def load_images(
    dataset: str, path: str | None, setting: Setting, validation: bool
) -> Images:
    """Load a data set; hold validation images out of the training images.

    Args:
        dataset: a name of `load_dataset`.
        path: path of the data set's files, or `None`.
        setting: size of the images and of the validation split.
        validation: whether accuracies are measured on the validation images
            and not on the test images.
    """
    (x, y), test, names = load_dataset(dataset, path)
    order = np.random.default_rng(0).permutation(len(x))
    held_out, rest = np.split(order, [setting.validation])
    fewest = np.bincount(y[rest]).min()
    if setting.labels_per_class > fewest:
        raise ValueError(
            f"`labels` must be at most {fewest}, the training images of the "
            f"smallest class. Received: labels={setting.labels_per_class}"
        )
    evaluation = (x[held_out], y[held_out]) if validation else test
    return Images(
        (_resize(x[rest], setting.image_size), y[rest]),
        (_resize(evaluation[0], setting.image_size), evaluation[1]),
        names,
    )


def draw_labeled(
    labels: np.ndarray, per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of each class; return their indices and the others'."""
    generator = np.random.default_rng([seed, 2])
    chosen = np.concatenate(
        [
            generator.choice(np.flatnonzero(labels == c), per_class, False)
            for c in np.unique(labels)
        ]
    )
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _resize(x, size):
    x = x.astype("float32") / 255
    if x.shape[1:3] != (size, size):
        x = keras.ops.convert_to_numpy(
            keras.ops.image.resize(
                x, (size, size), antialias=True, data_format="channels_last"
            )
        )
    return x
