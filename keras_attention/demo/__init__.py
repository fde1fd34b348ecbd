"""The demo, `keras-attention demo`: distillation where labels are few.

A teacher is trained on all labels. A smaller student has the labels of a few
images only, and is trained alone, by knowledge distillation (KD), by
attention transfer, and by both, over several seeds. The distilled student is
saved, loaded, exported, asked for an answer, and compared with the teacher.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_attention.demo import artifacts
from keras_attention.demo.data import load_images
from keras_attention.demo.report import conclusion
from keras_attention.demo.report import table
from keras_attention.demo.settings import ADVICE
from keras_attention.demo.settings import ALONE
from keras_attention.demo.settings import BOTH
from keras_attention.demo.settings import FAST
from keras_attention.demo.settings import SETTINGS
from keras_attention.demo.training import accuracy
from keras_attention.demo.training import train_row
from keras_attention.demo.training import train_teacher
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

__all__ = ["run_demo"]


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
        labels: Labelled images of each class the student has. `None` for the
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
            other arguments, and as `load_dataset`.
    """
    check_choice("dataset", dataset, tuple(SETTINGS))
    setting = FAST if fast else SETTINGS[dataset]
    changed = {"seeds": seeds, "labels_per_class": labels, "steps": steps}
    for name, given in (("seeds", seeds), ("labels", labels), ("steps", steps)):
        if given is not None:
            check_positive_integer(name, given)
    setting = dataclasses.replace(
        setting, **{k: v for k, v in changed.items() if v is not None}
    )
    out = artifacts.prepare_folder(out, overwrite)
    start = time.monotonic()
    images = load_images(dataset, data, setting, validation)
    classes = len(images.class_names)
    fewest = np.bincount(images.training[1]).min()
    if setting.labels_per_class > fewest:
        raise ValueError(
            f"`labels` must be at most {fewest}, the training images of the "
            f"smallest class. Received: labels={setting.labels_per_class}"
        )
    echo(
        f"{dataset}: the teacher has the labels of "
        f"{len(images.training[0])} images, the student those of "
        f"{classes * setting.labels_per_class}; accuracies on "
        f"{len(images.evaluation[0])} "
        f"{'validation' if validation else 'test'} images."
    )
    teacher = train_teacher(images, setting)
    echo(
        f"Teacher: {accuracy(teacher, images.evaluation):.1f} %, "
        f"{teacher.count_params():,} parameters "
        f"({time.monotonic() - start:.0f} s)"
    )

    def train(names, unlabelled):
        return {
            name: train_row(
                name,
                setting.rows()[name],
                teacher,
                images,
                setting,
                range(setting.seeds),
                unlabelled,
                echo,
            )
            for name in names
        }

    few = train(setting.rows(), unlabelled=False)
    tables = {
        f"{classes * setting.labels_per_class} labelled images": few.values()
    }
    if setting.unlabelled:
        others = [name for name in few if name != ALONE]
        many = {ALONE: few[ALONE], **train(others, unlabelled=True)}
        tables["The same, and the other images without labels"] = many.values()
    for title, rows in tables.items():
        echo("\n" + table(title, list(rows)))
        echo(conclusion(list(rows)))
    echo("Intervals: 95 % over seeds; differences paired by seed.\n" + ADVICE)

    student = few[BOTH].student
    shown = {
        "teacher": teacher,
        ALONE: few[ALONE].student,
        BOTH: student,
    }
    written = artifacts.save_models(
        {artifacts.TEACHER: teacher, artifacts.STUDENT: student},
        images,
        out,
        echo,
    )
    written += artifacts.export(student, images, out, echo)
    written.append(artifacts.write_images(images, out))
    written += artifacts.draw(shown, images, out)
    echo(f"\nDone in {time.monotonic() - start:.0f} s. Written:")
    for path in written:
        echo(f"  {path}")
    echo("Try:\n" + artifacts.next_commands(out))
    return written
