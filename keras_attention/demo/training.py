"""Trains the teacher, and one student for each row and seed."""

import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_attention.demo.data import UNLABELLED
from keras_attention.demo.data import Arrays
from keras_attention.demo.data import Batches
from keras_attention.demo.data import Images
from keras_attention.demo.data import draw_labelled
from keras_attention.demo.settings import Setting
from keras_attention.distillation import AttentionTransferModel
from keras_attention.layers import SqueezeExcite
from keras_attention.models import WideResNet

TEACHER_BATCH = 64


@dataclass(frozen=True)
class Row:
    """What came out of one row.

    Attributes:
        name: how the students were trained.
        accuracies: of each seed, in percent.
        weights: of the student of the first seed.
    """

    name: str
    accuracies: list[float]
    weights: list[np.ndarray]


def train_teacher(images: Images, setting: Setting) -> keras.Model:
    """Train the teacher, with attention in every block, on all labels."""
    keras.utils.set_random_seed(0)
    teacher = _network(
        images, setting, setting.teacher, "teacher", SqueezeExcite
    )
    steps = setting.teacher_steps
    _compile(teacher, setting, steps)
    batches = Batches(images.training, TEACHER_BATCH, steps, setting, seed=0)
    teacher.fit(batches, verbose=0, shuffle=False)
    return teacher


def make_student(
    images: Images,
    setting: Setting,
    seed: int = 0,
    weights: list[np.ndarray] | None = None,
) -> keras.Model:
    """Make a student with the weights of a seed, or with given ones."""
    keras.utils.set_random_seed(seed)
    student = _network(images, setting, setting.student, "student")
    if weights is not None:
        student.set_weights(weights)
    return student


@dataclass(frozen=True)
class Trainer:
    """A student and what trains it, started again for every seed.

    It is traced once, for all seeds and both tables.

    Attributes:
        name: name of the row.
        student: the student.
        model: what is fitted: the student, or an `AttentionTransferModel`.
        fresh: values of the optimizer's variables before any update.
    """

    name: str
    student: keras.Model
    model: keras.Model
    fresh: list[np.ndarray]


def make_trainer(
    name: str,
    distillation: dict[str, Any] | None,
    teacher: keras.Model,
    images: Images,
    setting: Setting,
) -> Trainer:
    """Make the student of a row, and what trains it.

    Args:
        name: name of the row.
        distillation: arguments of `AttentionTransferModel`, or `None` for
            the student alone.
        teacher: the trained teacher.
        images: the images.
        setting: how to train.
    """
    model = student = make_student(images, setting)
    if distillation is not None:
        model = AttentionTransferModel(student, teacher, **distillation)
    _compile(model, setting, setting.steps)
    model.optimizer.build(model.trainable_variables)
    fresh = list(map(keras.ops.convert_to_numpy, model.optimizer.variables))
    return Trainer(name, student, model, fresh)


def train_row(
    trainer: Trainer,
    starts: Sequence[list[np.ndarray]],
    images: Images,
    setting: Setting,
    unlabelled: bool,
    echo: Callable[[str], Any],
) -> Row:
    """Train one student for each seed, from the same start in every row.

    A seed draws the images with labels, their order and augmentation.

    Args:
        trainer: what `make_trainer` returns.
        starts: the initial weights of each seed's student.
        images: the images.
        setting: how to train.
        unlabelled: whether the images without labels are used too.
        echo: called with a line after each seed.
    """
    student, accuracies, weights = trainer.student, [], []
    for seed, initial in enumerate(starts):
        start = time.monotonic()
        keras.utils.set_random_seed(seed)
        student.set_weights(initial)
        for variable, value in zip(
            trainer.model.optimizer.variables, trainer.fresh, strict=True
        ):
            variable.assign(value)
        trainer.model.fit(
            _batches(images, setting, seed, unlabelled),
            verbose=0,
            shuffle=False,
        )
        accuracies.append(accuracy(student, images.evaluation))
        weights = weights or student.get_weights()
        echo(
            f"  {trainer.name}, seed {seed}: {accuracies[-1]:.1f} %"
            f"  ({time.monotonic() - start:.0f} s)"
        )
    return Row(trainer.name, accuracies, weights)


def accuracy(model: keras.Model, images: Arrays) -> float:
    """Return the accuracy in percent."""
    x, y = images
    return 100 * float(np.mean(predict(model, x).argmax(-1) == y))


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return the outputs of a model that is called few times: not traced."""
    outputs = [model(x[n : n + 256]) for n in range(0, len(x), 256)]
    return np.concatenate(list(map(keras.ops.convert_to_numpy, outputs)))


def _batches(images, setting, seed, unlabelled):
    x, y = images.training
    chosen, others = draw_labelled(y, setting.labels_per_class, seed)
    return Batches(
        (x[chosen], y[chosen]),
        setting.batch_size,
        setting.steps,
        setting,
        seed,
        x[others] if unlabelled else None,
    )


def _network(images, setting, depth_and_width, name, attention=None):
    decay = setting.weight_decay / 2
    return WideResNet(
        *depth_and_width,
        attention=attention and (lambda: attention(ratio=4)),
        input_shape=images.training[0].shape[1:],
        classes=len(images.class_names),
        kernel_regularizer=keras.regularizers.L2(decay) if decay else None,
        name=name,
    )


def _compile(model, setting, steps):
    model.compile(
        OPTIMIZERS[setting.optimizer](setting.learning_rate, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(
            ignore_class=UNLABELLED
        ),
        # Compiling by XLA takes longer than it saves in so few steps.
        jit_compile=False,
    )


def _adam(peak, steps):
    decay = keras.optimizers.schedules.CosineDecay(peak, steps)
    return keras.optimizers.Adam(decay)


def _sgd(peak, steps):
    rise = max(1, steps // 5)
    cycle = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=peak, warmup_steps=rise
    )
    return keras.optimizers.SGD(cycle, momentum=0.9, nesterov=True)


OPTIMIZERS = {"adam": _adam, "sgd": _sgd}
