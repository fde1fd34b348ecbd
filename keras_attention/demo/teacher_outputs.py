"""The teacher's outputs, computed once for each augmented image."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_attention.demo.data import Batches
from keras_attention.distillation import AttentionTransferModel
from keras_attention.distillation import precompute_teacher
from keras_attention.distillation.teacher_cache import targets_of
from keras_attention.distillation.teacher_cache import with_targets

BATCH = 64


class DistilledBatches(keras.utils.PyDataset):
    """Batches with the teacher's outputs.

    Args:
        batches: the batches.
        records: outputs of the teacher.
        places: which of the records belongs to each image of each batch.
    """

    def __init__(
        self, batches: Batches, records: np.ndarray, places: np.ndarray
    ):
        super().__init__()
        self.batches, self.records, self.places = batches, records, places

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        x, y = self.batches[index]
        targets = targets_of(self.records[self.places[index]])
        return with_targets(x, targets), y


class AugmentedImages(keras.utils.PyDataset):
    """Augmented images, each once.

    Args:
        batches: batches that have the images.
        draws: the number and the augmentation of each.
    """

    def __init__(self, batches: Batches, draws: np.ndarray):
        super().__init__()
        self.batches, self.draws = batches, draws

    def __len__(self):
        return -(-len(self.draws) // BATCH)

    def __getitem__(self, index):
        start = index * BATCH
        return (self.batches.augment(self.draws[start : start + BATCH]),)


def add_teacher_outputs(
    model: AttentionTransferModel, trainings: Sequence[Batches]
) -> list[DistilledBatches]:
    """Add the teacher's outputs to the batches of several trainings.

    Few images, moved by few pixels, come up again and again, in every row and
    for every seed: the teacher sees each of them once.

    Args:
        model: what compares all that the rows compare.
        trainings: the batches of each training, of the same images.
    """
    draws = np.stack([batches.draws for batches in trainings])
    unique, places = np.unique(
        draws.reshape(-1, draws.shape[-1]), axis=0, return_inverse=True
    )
    images = AugmentedImages(trainings[0], unique)
    records = precompute_teacher(model, images, verbose=False).records
    return [
        DistilledBatches(batches, records, each)
        for batches, each in zip(
            trainings, places.reshape(draws.shape[:-1]), strict=True
        )
    ]
