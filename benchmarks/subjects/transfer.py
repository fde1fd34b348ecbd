"""A step of attention transfer, compared with its parts and Keras' own.

The floor is a training step of the student alone plus a forward pass of the
teacher, each compiled as Keras compiles them. Keras' Distiller is given the
same loss; that both compute it is checked before anything is timed.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_attention as ka
from benchmarks.harness.cases import GRAPH
from benchmarks.harness.cases import MODES
from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Spread
from benchmarks.harness.timing import interleave
from keras_attention.distillation import AttentionTransferLoss
from keras_attention.distillation import precompute_teacher
from keras_attention.models import WideResNet

TITLE = "Attention transfer"
STAGES = ["stage1", "stage2", "stage3"]
BETA = 1e3
GOALS = (
    Goal("ours", "ours ÷ (student + teacher)", 1.02),
    Goal("precomputed", "ours precomputed ÷ student", 1.02),
    Goal("Distiller", "Distiller ÷ ours", 1.3, least=True),
)
NOTE = (
    "All rows count, so a goal is missed if one step misses it. From "
    "precomputed maps, what remains besides the student's step is the loss of "
    "the maps and its gradient."
)


def run(quick: bool = False) -> list[Table]:
    size, rounds, batches, modes = 32, 61, (64, 128), MODES
    if quick:
        size, rounds, batches, modes = 16, 3, (8,), GRAPH
    table = Table(
        [
            "step",
            "batch",
            "student, teacher forward, ours, ours precomputed, Distiller (ms)",
            "ours ÷ (student + teacher)",
            "ours precomputed ÷ student",
            "Distiller ÷ ours",
        ],
        "WRN-16-1 distilled from WRN-16-2 at three stages, images "
        f"{size}x{size}, float32, SGD with momentum. The student is Keras' "
        "step of the student alone. Ours, with the teacher in the step and "
        "from its precomputed maps, and keras.distillation.Distiller compute "
        "the same loss, which was checked in this run.",
    )
    for batch in batches:
        for mode, jit in modes.items():
            cases = _cases(batch, size, jit)
            name = f"transfer {mode} {batch}"
            seconds = interleave(cases, rounds, name).seconds
            floor = seconds["student"] + seconds["teacher"]
            table.add(
                mode,
                batch,
                ", ".join(
                    f"{1e3 * np.median(each):.0f}" for each in seconds.values()
                ),
                Spread.of(seconds["ours"] / floor),
                Spread.of(seconds["precomputed"] / seconds["student"]),
                Spread.of(seconds["Distiller"] / seconds["ours"]),
            )
    return [table]


def _cases(batch: int, size: int, jit: bool) -> dict[str, Callable[[], Any]]:
    """The five things that are timed, by name."""
    random = np.random.default_rng()
    x = random.normal(size=(batch, size, size, 3)).astype("float32")
    y = random.integers(10, size=batch)
    shape = x.shape[1:]
    teacher = WideResNet(16, 2, input_shape=shape)
    student = WideResNet(16, 1, input_shape=shape)
    students = [keras.models.clone_model(student) for _ in range(3)]
    for other in students:
        other.set_weights(student.get_weights())
    ours = ka.AttentionTransferModel(students[0], teacher, STAGES, BETA)
    precomputed = ka.AttentionTransferModel(students[1], None, STAGES, BETA)
    distiller = keras.distillation.Distiller(
        teacher,
        students[2],
        [
            keras.distillation.FeatureDistillation(
                AttentionTransferLoss(), stage, stage
            )
            for stage in STAGES
        ],
        distillation_loss_weights=[BETA] * len(STAGES),
        # Its loss is half of ours: of the labels' and of the teacher's part.
        student_loss_weight=0.5,
    )
    taught = precompute_teacher(
        teacher, (x, y), STAGES, batch_size=batch, verbose=False
    )
    distillers = {
        "ours": _step(ours, jit, x, y),
        "precomputed": _step(precomputed, jit, *taught[0]),
        "Distiller": _step(distiller, jit, x, y),
    }
    losses = {name: step()["loss"] for name, step in distillers.items()}
    losses["Distiller"] *= 2
    if not np.allclose(list(losses.values()), losses["ours"], rtol=1e-3):
        raise RuntimeError(f"the losses differ: {losses}")
    predict = tf.function(lambda x: teacher(x, training=False), jit_compile=jit)
    images = tf.constant(x)
    return {
        "student": _step(student, jit, x, y),
        "teacher": lambda: predict(images).numpy(),
        **distillers,
    }


def _step(
    model: keras.Model, jit: bool, x: Any, y: Any
) -> Callable[[], dict[str, float]]:
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        jit_compile=jit,
    )
    return lambda: model.train_on_batch(x, y, return_dict=True)
