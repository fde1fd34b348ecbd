"""Trains the teacher, and a student of each row for each seed."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
import numpy as np

from keras_attention.datasets import UNLABELED
from keras_attention.demo.data import Arrays
from keras_attention.demo.data import Batches
from keras_attention.demo.data import Images
from keras_attention.demo.data import draw_labeled
from keras_attention.demo.settings import Setting
from keras_attention.distillation import AttentionTransferModel
from keras_attention.layers import SqueezeExcite
from keras_attention.models import WideResNet

TEACHER_BATCH = 64
# Seconds between two lines of a training's progress.
PROGRESS_SECONDS = 60
# Steps of a small network from one call of Python to the next.
STEPS_PER_CALL = 10
# Held by the training that is traced.
TRACING = threading.Lock()


class Progress(keras.callbacks.Callback):
    """Says once a minute how far a training is.

    Args:
        name: what is trained.
        echo: called with each line.
    """

    def __init__(self, name: str, echo: Callable[[str], Any]):
        super().__init__()
        self.name, self.echo = name, echo

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to count the time."""
        self.said = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Say it, if a minute has passed."""
        if time.monotonic() - self.said < PROGRESS_SECONDS:
            return
        self.said = time.monotonic()
        loss = "" if not logs else f", loss {float(logs['loss']):.3g}"
        self.echo(
            f"  {self.name}: step {batch + 1} of {self.params['steps']}{loss}"
        )


@dataclass
class Row:
    """What came out of one row.

    Attributes:
        name: how the students were trained.
        accuracies: Accuracies of each seed, in percent.
    """

    name: str
    accuracies: list[float] = field(default_factory=list)


def make_teacher(
    images: Images, setting: Setting
) -> tuple[keras.Model, Batches]:
    """Make the teacher, with attention in every block, and its batches.

    It has the labels of all training images.
    """
    keras.utils.set_random_seed(0)
    teacher = _network(
        images, setting, setting.teacher, "teacher", SqueezeExcite
    )
    steps = setting.teacher_steps
    _compile(teacher, setting, steps)
    return teacher, Batches(
        images.training, TEACHER_BATCH, steps, setting, seed=0
    )


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
        student: the student.
        model: what is fitted: the student, or an `AttentionTransferModel`.
        fresh: values of the optimizer's variables before any update.
        lock: held while the student is trained.
    """

    student: keras.Model
    model: keras.Model
    fresh: list[np.ndarray]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def train(
        self,
        initial: list[np.ndarray],
        batches: keras.utils.PyDataset,
        images: Images,
        progress: Progress | None = None,
    ) -> tuple[float, list[np.ndarray]]:
        """Train the student; return its accuracy in percent and its weights.

        Args:
            initial: the weights it starts from.
            batches: what it is trained on, once.
            images: the images, for the accuracy.
            progress: what says how far it is.
        """
        with self.lock:
            self.student.set_weights(initial)
            for variable, value in zip(
                self.model.optimizer.variables, self.fresh, strict=True
            ):
                variable.assign(value)
            fit(self.model, batches, progress)
            weights = self.student.get_weights()
            return accuracy(self.student, images.evaluation), weights


def make_trainer(
    distillation: dict[str, Any] | None,
    teacher: keras.Model | None,
    images: Images,
    setting: Setting,
) -> Trainer:
    """Make the student of a row, and what trains it.

    Args:
        distillation: arguments of `AttentionTransferModel`, or `None` for
            the student alone.
        teacher: the trained teacher, or `None` for the student alone.
        images: the images.
        setting: how to train.
    """
    model = student = make_student(images, setting)
    if distillation is not None:
        model = AttentionTransferModel(student, teacher, **distillation)
    _compile(model, setting, setting.steps)
    fresh = list(map(keras.ops.convert_to_numpy, model.optimizer.variables))
    return Trainer(student, model, fresh)


def make_batches(
    images: Images, setting: Setting, seed: int, unlabeled: bool
) -> Batches:
    """Draw the labeled images of a seed, their order and augmentation.

    Args:
        images: the images.
        setting: how to train.
        seed: the seed.
        unlabeled: whether the other images are used too, without labels.
    """
    chosen, others = draw_labeled(
        images.training[1], setting.labels_per_class, seed
    )
    return Batches(
        images.training,
        setting.batch_size,
        setting.steps,
        setting,
        seed,
        chosen,
        others if unlabeled else None,
    )


def fit(
    model: keras.Model,
    batches: keras.utils.PyDataset,
    progress: Progress | None = None,
) -> None:
    """Train a model on batches, once. Models are traced one after another."""
    with contextlib.ExitStack() as tracing:
        tracing.enter_context(TRACING)

        def traced(batch, logs):
            tracing.close()

        model.fit(
            batches,
            verbose=0,
            shuffle=False,
            callbacks=[
                keras.callbacks.LambdaCallback(on_train_batch_end=traced),
                *([] if progress is None else [progress]),
            ],
        )


def accuracy(model: keras.Model, images: Arrays) -> float:
    """Return the accuracy in percent."""
    x, y = images
    return 100 * float(np.mean(predict(model, x).argmax(-1) == y))


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return the outputs of a model that is called few times: not traced."""
    outputs = [model(x[n : n + 256]) for n in range(0, len(x), 256)]
    return np.concatenate(list(map(keras.ops.convert_to_numpy, outputs)))


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
        loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=UNLABELED),
        # Compiling by XLA takes longer than it saves in so few steps.
        jit_compile=False,
        steps_per_execution=min(STEPS_PER_CALL, steps),
    )
    # A step that makes the optimizer's variables would be traced twice.
    model.optimizer.build(model.trainable_variables)


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
