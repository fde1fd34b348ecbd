"""Two replicas make the update of one device, each strategy in a process."""

import contextlib
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.models import WideResNet

COMMON = """
import sys
sys.path.insert(0, sys.argv[1])
import keras
import numpy as np
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network
from keras_attention import AttentionTransferModel

SYNCHRONIZED = False


def train():
    student = network(regularizer="l2", synchronized=SYNCHRONIZED)
    # Else each replica has the statistics of its own part of the batch.
    for name in ("norm1", "norm2"):
        student.get_layer(name).trainable = SYNCHRONIZED
    model = AttentionTransferModel(
        student, teacher_network(), alpha=0.5, beta=50, **EXTRA
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    x, y = examples(8)
    weight = np.linspace(0.5, 1.5, 8).astype("float32")
    history = model.fit(
        x, y, sample_weight=weight, batch_size=4, epochs=2, shuffle=False,
        verbose=0,
    ).history
    return student.get_weights(), history


def check(one, several):
    for a, b in zip(one[0], several[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=2e-6)
    assert set(one[1]) == set(several[1])
    for name in one[1]:
        np.testing.assert_allclose(
            several[1][name], one[1][name], rtol=1e-4, err_msg=name
        )
"""

TWO_DEVICES = """
import tensorflow as tf

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
"""

MIRRORED = (
    TWO_DEVICES
    + """
one = train()
with scope():
    several = train()
check(one, several)
"""
)

SYNCHRONIZED_NORMS = "SYNCHRONIZED = True\n" + MIRRORED

# One replica's part of a batch is no number: none of them updates anything.
BAD_PART = (
    TWO_DEVICES
    + """
with scope():
    student = network(dropout=0.3)
    model = AttentionTransferModel(student, teacher_network(), **EXTRA)
    model.compile("adam", "sparse_categorical_crossentropy")
x, y = examples(4)
bad = x.copy()
bad[3] = np.inf
fit = dict(batch_size=4, shuffle=False, verbose=0)
model.fit(x, y, **fit)
before = [v.numpy() for v in model.student.variables]
try:
    model.fit(bad, y, **fit)
except ValueError as error:
    assert "label_loss=nan" in str(error)
else:
    raise RuntimeError("no error")
for v, value in zip(model.student.variables, before, strict=True):
    np.testing.assert_array_equal(v.numpy(), value)
assert model.optimizer.iterations.numpy() == 1
mean = student.get_layer("norm1").moving_mean
kept = mean.numpy()
model.fit(x, y, **fit)
assert np.abs(mean.numpy() - kept).max() > 1e-4
assert model.optimizer.iterations.numpy() == 2
"""
)

DATA_PARALLEL = """
one = train()
keras.distribution.set_distribution(keras.distribution.DataParallel())
several = train()
check(one, several)
"""


# Keras trains on one device with torch: two runs there must be one.
TWICE = "check(train(), train())"

# By backend: the code, what is asked of the model, and the environment.
CASES = {
    "tensorflow": [
        (MIRRORED, "{}", {}),
        (MIRRORED, "{'gradient_transfer': 0.5, 'reduction': 'paper'}", {}),
        (SYNCHRONIZED_NORMS, "{}", {}),
        (BAD_PART, "{}", {}),
    ],
    "jax": [
        (
            DATA_PARALLEL,
            "{'gradient_transfer': 0.5}",
            {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        )
    ],
    "torch": [(TWICE, "{}", {})],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "extra", "environment"), CASES[keras.backend.backend()]
)
def test_two_replicas_make_the_update_of_one_device(code, extra, environment):
    tests = pathlib.Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", f"{COMMON}\nEXTRA = {extra}\n{code}", tests],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            **environment,
        },
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_strategy_of_one_replica_trains_as_none_does():
    import tensorflow as tf

    weights = []
    for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0"])):
        keras.utils.set_random_seed(3)
        with strategy.scope() if strategy else contextlib.nullcontext():
            shape = {"input_shape": (8, 8, 1), "classes": 3}
            student, teacher = (WideResNet(10, n, **shape) for n in (1, 2))
            model = AttentionTransferModel(student, teacher)
            model.compile("sgd", loss="sparse_categorical_crossentropy")
        x = np.random.default_rng(0).normal(size=(6, 8, 8, 1))
        model.fit(x, np.arange(6) % 3, batch_size=3, shuffle=False, verbose=0)
        weights.append(student.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
