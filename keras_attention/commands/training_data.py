"""What `keras-attention transfer` trains a student with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.commands.image_data import ImageFormat
from keras_attention.commands.image_data import count_images
from keras_attention.commands.image_data import load_images
from keras_attention.commands.unlabeled_images import LabeledAccuracy
from keras_attention.commands.unlabeled_images import MixedBatches
from keras_attention.commands.unlabeled_images import load_unlabeled
from keras_attention.commands.unlabeled_images import steps_of
from keras_attention.datasets import UNLABELED
from keras_attention.inspection.model_outputs import output_activations


@dataclass(frozen=True)
class TrainingData:
    """What the student is trained with.

    Attributes:
        training: arrays or batches of images, for the student and its teacher.
        training_alone: the same, for the student alone: in as many steps.
        validation: images that are not trained on, or `None`.
        loss: the loss of the labels.
        batch_size: images in a batch.
        steps: batches in an epoch.
        labeled: number of images with labels.
        unlabeled: number of images without labels.
    """

    training: Any
    training_alone: Any
    validation: Any
    loss: Any
    batch_size: int
    steps: int
    labeled: int
    unlabeled: int

    @property
    def description(self) -> str:
        """How many images there are."""
        others = f" and {self.unlabeled} without labels"
        return f"{self.labeled} images{others if self.unlabeled else ''}"

    def new_metrics(self) -> list[Any]:
        """Make the metrics of a model, which are its own."""
        return [LabeledAccuracy() if self.unlabeled else "accuracy"]


def load_training_data(
    options: Mapping[str, Any], student: keras.Model, form: ImageFormat
) -> TrainingData:
    """Load the images, with those that have no labels.

    Args:
        options: the options of the command.
        student: the student.
        form: what the images are made to be.
    """
    seed = options["seed"]
    images = load_images(
        options["data"],
        form,
        validation=options["validation"],
        split=options["validation_split"],
        seed=seed,
        in_memory=options["precompute"] is not None,
    )
    unlabeled = None
    if options["unlabeled"]:
        unlabeled = load_unlabeled(options["unlabeled"], form)
    loss = _loss(student, images.classes, unlabeled is not None)
    _check_folders(student, images)
    others = count_images(unlabeled)
    batch_size = options["batch_size"] or default_batch_size(
        images.count + others
    )
    images = images.with_batches(batch_size)
    training = alone = images.training
    steps = -(-images.count // batch_size)
    if unlabeled is not None:
        steps = steps_of(images.count, others, batch_size)
        training, alone = (
            MixedBatches(images.training, each, batch_size, steps, seed)
            for each in (unlabeled, None)
        )
    return TrainingData(
        training,
        alone,
        images.validation,
        loss,
        batch_size,
        steps,
        images.count,
        others,
    )


def default_batch_size(count: int) -> int:
    """128, or the power of two that gives some ten steps, but 8 at least."""
    return min(128, max(8, 1 << max(0, (count // 10).bit_length() - 1)))


def _loss(student, classes, unlabeled=False):
    """The loss of the labels, by what the student's output is."""
    shape = student.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(
            "The student must have one output, (batch, classes). Train it in "
            "Python otherwise, with keras_attention.AttentionTransferModel. "
            f"Received: '{student.name}' with output shape {shape}"
        )
    units = shape[-1]
    if classes > max(units, 2):
        raise ValueError(
            f"The data have more classes than the student's output, {units}. "
            f"Received: data with {classes} classes"
        )
    activation = output_activations(student).get(0)
    if units == 1:
        if unlabeled:
            raise ValueError(
                "--unlabeled needs a student with an output for each class: "
                "the loss of a single output cannot leave out images. "
                f"Received: '{student.name}' with output shape {shape}"
            )
        return keras.losses.BinaryCrossentropy(activation != "sigmoid")
    return keras.losses.SparseCategoricalCrossentropy(
        activation != "softmax",
        ignore_class=UNLABELED if unlabeled else None,
    )


def _check_folders(student, images):
    """Refuse folders of a part of the classes, whose numbers would differ."""
    # One output tells two classes apart.
    classes = max(student.output_shape[-1], 2)
    if images.names is None or len(images.names) == classes:
        return
    raise ValueError(
        "There must be one folder of images for each of the student's "
        f"{classes} classes: they are numbered in the alphabetical order of "
        "the folders, and without all of them images would get the labels of "
        f"other classes. Received: {len(images.names)} folders, from "
        f"'{images.names[0]}' to '{images.names[-1]}'. Make an empty folder "
        "for each class without images, or take a student with as many "
        "classes as folders."
    )
