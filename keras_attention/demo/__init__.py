"""The demo, `keras-attention demo`: distillation where labels are few.

A teacher is trained on all labels. A smaller student has the labels of a few
images only, and is trained alone, by knowledge distillation (KD), by
attention transfer, and by both, over several seeds. The distilled student is
saved, loaded, exported, asked for an answer, and compared with the teacher.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras

from keras_attention.demo import artifacts
from keras_attention.demo.data import Images
from keras_attention.demo.data import load_images
from keras_attention.demo.report import conclusion
from keras_attention.demo.report import table
from keras_attention.demo.settings import ADVICE
from keras_attention.demo.settings import ALONE
from keras_attention.demo.settings import BOTH
from keras_attention.demo.settings import FAST
from keras_attention.demo.settings import ROWS
from keras_attention.demo.settings import SETTINGS
from keras_attention.demo.settings import Setting
from keras_attention.demo.teacher_outputs import add_teacher_outputs
from keras_attention.demo.training import Progress
from keras_attention.demo.training import Row
from keras_attention.demo.training import accuracy
from keras_attention.demo.training import fit
from keras_attention.demo.training import make_batches
from keras_attention.demo.training import make_student
from keras_attention.demo.training import make_teacher
from keras_attention.demo.training import make_trainer
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

__all__ = ["run_demo"]

# For each table and seed, the accuracy and the weights of each row's student.
Trainings = dict[str, list[dict[str, Future]]]
# Trainings at a time. A step of networks this small keeps one core busy.
WORKERS = 2


def run_demo(
    dataset: str = "digits",
    data: str | None = None,
    out: str | os.PathLike = "demo-output",
    seeds: int | None = None,
    labels: int | None = None,
    steps: int | None = None,
    validation: bool = False,
    fast: bool = False,
    overwrite: bool = False,
    echo: Callable[[str], Any] = print,
) -> list[pathlib.Path]:
    """Train, distill, save, load, export, ask and plot.

    Args:
        dataset: `"digits"`, `"fashion-mnist"` or `"cifar10"`. Defaults to
            `"digits"`.
        data: Path of the data set's files; see `load_dataset`.
        out: Folder to write to. Defaults to `"demo-output"`.
        seeds: Number of students in each row. `None` for the data set's
            usual number.
        labels: Labeled images of each class the student has. `None` for the
            data set's usual number.
        steps: Updates of each student. `None` for the data set's usual
            number.
        validation: Whether accuracies are those on images held out of the
            training images, to compare settings by. Defaults to `False`, the
            test images.
        fast: Whether to take the smallest setting, which shows only that
            everything runs. Defaults to `False`.
        overwrite: Whether to replace the results of an earlier run. Defaults
            to `False`.
        echo: Called with each line of the report. Defaults to `print`.

    Returns:
        The paths of what was written.

    Raises:
        FileExistsError: If `out` has the results of an earlier run and
            `overwrite` is `False`.
        OSError: If `out` cannot be written.
        ValueError, FileNotFoundError, ConnectionError, ImportError: For
            another backend than TensorFlow, other arguments, and as
            `load_dataset`.
    """
    setting = choose_setting(dataset, fast, seeds, labels, steps)
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            "The demo ends with an export for TensorFlow Serving, which the "
            f"TensorFlow backend writes. Received: backend='{backend}'. Set "
            "KERAS_BACKEND=tensorflow."
        )
    out = artifacts.prepare_folder(out, overwrite)
    start = time.monotonic()
    images = load_images(dataset, data, setting, validation)
    echo(
        f"{dataset}: the teacher has the labels of "
        f"{len(images.training[0])} images, each student those of "
        f"{setting.labels_per_class} per class. Accuracies are on "
        f"{len(images.evaluation[0])} "
        f"{'validation' if validation else 'test'} images."
    )
    with _workers() as pool:
        # Traced first: it is trained while the teacher is traced.
        alone = train_alone(images, setting, pool, echo)
        teacher, batches = make_teacher(images, setting)
        fit(teacher, batches, Progress("teacher", echo))
        echo(
            f"Teacher: {accuracy(teacher, images.evaluation):.1f} %, "
            f"{teacher.count_params():,} parameters "
            f"({time.monotonic() - start:.0f} s)"
        )
        trainings = train_students(teacher, images, setting, pool, alone, echo)
        # The models of the first seed; the others are trained meanwhile.
        few, *_ = trainings.values()
        models = {"teacher": teacher}
        for name in (ALONE, BOTH):
            _, weights = few[0][name].result()
            models[name] = make_student(images, setting, weights=weights)
        written = artifacts.write(models, images, setting, out, echo)
        tables = collect(trainings, echo)
    for title, rows in tables.items():
        echo(f"\n{table(title, rows)}\n{conclusion(rows)}")
    echo(f"\nIntervals: 95 %, over seeds; differences by seed.\n{ADVICE}")
    echo(f"\nDone in {time.monotonic() - start:.0f} s. Written:")
    for path in written:
        echo(f"  {path}")
    echo("Try:\n" + artifacts.next_commands(out))
    return written


def choose_setting(
    dataset: str,
    fast: bool,
    seeds: int | None,
    labels: int | None,
    steps: int | None,
) -> Setting:
    """Return the setting of a data set, with what the user has changed."""
    check_choice("dataset", dataset, tuple(SETTINGS))
    changed = {}
    for name, field, value in (
        ("seeds", "seeds", seeds),
        ("labels", "labels_per_class", labels),
        ("steps", "steps", steps),
    ):
        if value is not None:
            check_positive_integer(name, value)
            changed[field] = value
    setting = FAST if fast else SETTINGS[dataset]
    return dataclasses.replace(setting, **changed)


def train_students(
    teacher: keras.Model,
    images: Images,
    setting: Setting,
    pool: ThreadPoolExecutor,
    alone: Sequence[Future],
    echo: Callable[[str], Any],
) -> Trainings:
    """Begin to distill the students of all rows, table by table.

    For each seed, the students of all rows start from the same weights, and
    are trained on the same batches.

    Args:
        teacher: the trained teacher.
        images: the images.
        setting: how to train.
        pool: what trains the students.
        alone: accuracy and weights of the student alone, of each seed.
        echo: called with each line of the report.
    """
    labeled = setting.labels_per_class * len(images.class_names)
    few = f"{labeled} labeled images"
    others = len(images.training[0]) - labeled
    many = f"{few}, and {others} of the teacher's without labels"
    titles = [few, many] if setting.unlabeled else [few]
    trainers = {
        name: make_trainer(distillation, teacher, images, setting)
        for name, distillation in ROWS.items()
        if distillation is not None
    }
    trainings: Trainings = {}
    for title in titles:
        batches = [
            make_batches(images, setting, seed, title == many)
            for seed in range(setting.seeds)
        ]
        trainings[title] = []
        distilled = add_teacher_outputs(trainers[BOTH].model, batches)
        for seed, each in enumerate(distilled):
            initial = make_student(images, setting, seed).get_weights()
            # Images without labels give nothing to the student alone.
            rows = {ALONE: alone[seed]}
            for name, trainer in trainers.items():
                progress = Progress(f"{name}, seed {seed}", echo)
                rows[name] = pool.submit(
                    trainer.train, initial, each, images, progress
                )
            trainings[title].append(rows)
    return trainings


def collect(
    trainings: Trainings, echo: Callable[[str], Any]
) -> dict[str, list[Row]]:
    """Wait for the students; return the rows of each table.

    Args:
        trainings: what `train_students` has begun.
        echo: called with each line of the report.
    """
    tables = {}
    for title, seeds in trainings.items():
        rows = tables[title] = [Row(name) for name in ROWS]
        echo(f"{title}:")
        for seed, futures in enumerate(seeds):
            for row in rows:
                row.accuracies.append(futures[row.name].result()[0])
            found = [f"{row.name} {row.accuracies[-1]:.1f}" for row in rows]
            echo(f"  seed {seed}: {', '.join(found)}")
    return tables


def train_alone(
    images: Images,
    setting: Setting,
    pool: ThreadPoolExecutor,
    echo: Callable[[str], Any],
) -> list[Future]:
    """Begin to train the student alone; return what comes of each seed."""
    trainer = make_trainer(None, None, images, setting)
    return [
        pool.submit(
            trainer.train,
            make_student(images, setting, seed).get_weights(),
            make_batches(images, setting, seed, unlabeled=False),
            images,
            Progress(f"{ALONE}, seed {seed}", echo),
        )
        for seed in range(setting.seeds)
    ]


@contextlib.contextmanager
def _workers():
    """Give a pool of threads; after an error, what waits does not begin."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
