"""Two replicas on one machine take the step of one, for every public layer.

A replica's batch normalization sees its own part of the batch. So both parts
have the same inputs, with labels and weights of their own.
"""

import os
import pathlib
import subprocess
import sys

import pytest

from conformance.rows import ROWS

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

CODE = """
import sys

sys.path.insert(0, sys.argv[1])
import keras
import numpy as np
import tensorflow as tf

from conformance.harness import make_layer
from conformance.harness import randomize
from conformance.rows import ROWS


def first_rows():
    # One row a layer; replicas draw dropout masks of their own.
    rows = {}
    for row in ROWS:
        rows.setdefault(row.layer, row)
    return rows.values()


def step(row):
    # The layer before gets the gradient of the layer's input.
    inputs = keras.Input(row.shape[1:])
    x = keras.layers.Dense(row.shape[-1], name="before")(inputs)
    # Flat, as sample weights want it.
    model = keras.Model(inputs, keras.layers.Flatten()(make_layer(row)(x)))
    randomize(model)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *row.shape[1:])).astype("float32")
    x = np.resize(x, (4, *row.shape[1:]))
    y = generator.normal(size=model.compute_output_shape(x.shape))
    weight = generator.uniform(0.5, 1.5, size=4)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    history = model.fit(
        x, y, sample_weight=weight, batch_size=4, shuffle=False, verbose=0
    ).history
    return history["loss"][0], {
        v.path: keras.ops.convert_to_numpy(v) for v in model.weights
    }


def compare(row, one, several):
    np.testing.assert_allclose(several[0], one[0], rtol=1e-4, err_msg="loss")
    for (path, a), b in zip(one[1].items(), several[1].values(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5, err_msg=path)


cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
failures = []
for row in first_rows():
    one = step(row)
    with strategy.scope():
        several = step(row)
    try:
        compare(row, one, several)
    except AssertionError as error:
        failures.append(f"{row.name}: {error}")
print(len(first_rows()), "layers")
sys.exit(chr(10).join(failures) or None)
"""


def test_every_layer_takes_the_step_of_one_device():
    result = subprocess.run(
        [sys.executable, "-c", CODE, pathlib.Path(__file__).parents[1]],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    count = len({row.layer for row in ROWS})
    assert result.stdout.splitlines()[-1] == f"{count} layers"
