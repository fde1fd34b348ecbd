"""A step of attention transfer beside what it is made of, and Keras' own.

The floor is a training step of the student alone plus a forward pass of the
teacher, each compiled as Keras compiles them.
"""

import keras
import numpy as np
import tensorflow as tf

import keras_attention as ka
from benchmarks.report import Table
from benchmarks.timing import interleave
from keras_attention.distillation import AttentionTransferLoss
from keras_attention.models import WideResNet

TITLE = "Attention transfer"
STAGES = ("stage1", "stage2", "stage3")


def run(quick: bool = False) -> list[Table]:
    batch, size, rounds = (8, 16, 3) if quick else (64, 32, 15)
    x = np.random.default_rng().normal(size=(batch, size, size, 3))
    x = x.astype("float32")
    y = np.random.default_rng().integers(10, size=batch)
    shape = x.shape[1:]
    teacher = WideResNet(16, 2, input_shape=shape)
    alone = WideResNet(16, 1, input_shape=shape)
    transfer = ka.AttentionTransferModel(
        WideResNet(16, 1, input_shape=shape), teacher
    )
    distiller = keras.distillation.Distiller(
        teacher,
        WideResNet(16, 1, input_shape=shape),
        [
            keras.distillation.FeatureDistillation(
                AttentionTransferLoss(), stage, stage
            )
            for stage in STAGES
        ],
        distillation_loss_weights=[1e3] * len(STAGES),
        student_loss_weight=1.0,
    )
    predict = tf.function(lambda x: teacher(x, training=False))
    batch_x = tf.constant(x)
    cases = {
        "transfer": _step(transfer, x, y),
        "student": _step(alone, x, y),
        "teacher": lambda: predict(batch_x),
        "Distiller": _step(distiller, x, y),
    }
    seconds = interleave(cases, rounds, "transfer").seconds
    floor = seconds["student"] + seconds["teacher"]
    table = Table(
        ["what", "ms", "÷ (student step + teacher forward)"],
        f"WRN-16-1 taught by WRN-16-2, batch {batch}, images {size}x{size}, "
        "plain graph, float32.",
    )
    for name in cases:
        ratio = np.percentile(seconds[name] / floor, [25, 50, 75])
        table.add(
            name,
            f"{1e3 * np.median(seconds[name]):.1f}",
            f"{ratio[1]:.2f} ({ratio[0]:.2f}–{ratio[2]:.2f})",
        )
    return [table]


def _step(model, x, y):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
    )
    return lambda: model.train_on_batch(x, y)
