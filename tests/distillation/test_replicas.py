"""What Keras cannot do on several replicas is refused before it is tried."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

CODE = """
import sys

sys.path.insert(0, sys.argv[1])
import keras
import pytest
import tensorflow as tf

from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network
from keras_attention import AttentionTransferModel

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x, y = examples(4)
outside, teacher = network(), teacher_network()


def refused(words):
    return pytest.raises(ValueError, match=words)


def compiled(model, **arguments):
    model.compile("sgd", "sparse_categorical_crossentropy", **arguments)
    return model


for scope in (strategy.scope, lambda: tf.device("CPU:0")):
    # In the scope and out of it.
    with strategy.scope():
        model = AttentionTransferModel(network(), teacher)
    with scope():
        compiled(model, steps_per_execution=2)
        with refused("2 replicas of a MirroredStrategy.*steps_per_execution=2"):
            model.fit(x, y)
        compiled(model, jit_compile=True)
        with refused("jit_compile=True. Compile .* jit_compile=False"):
            model.fit(x, y)
        # It was said in time: the process goes on.
        compiled(model).fit(x, y, verbose=0)

with strategy.scope():
    model = AttentionTransferModel(outside, teacher)
    compiled(model)
    with refused("'student' made outside"):
        model.fit(x, y)
one = AttentionTransferModel(outside, teacher)
compiled(one, steps_per_execution=2, jit_compile=True)
one.fit(x, y, batch_size=2, verbose=0)
"""


def test_what_keras_cannot_do_is_refused():
    result = subprocess.run(
        [sys.executable, "-c", CODE, pathlib.Path(__file__).parents[1]],
        capture_output=True,
        text=True,
        env=dict(os.environ, KERAS_BACKEND="tensorflow"),
    )
    assert result.returncode == 0, result.stderr[-3000:]
