"""Two processes, and two devices of one, have the losses of one process.

The examples themselves, with networks that compile in seconds.
"""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

TESTS = pathlib.Path(__file__).parents[1]
CODE = """
import importlib
import sys

examples, tests, name = sys.argv[1:4]
del sys.argv[1:4]
sys.path[:0] = examples, tests
example = importlib.import_module(name)
from support.distillation import network


def small(depth, width, input_shape):
    model = network(filters=(3 * width, 5 * width), channels=1, classes=10)
    if name == "several_machines_tensorflow":
        # Each process would have the statistics of its part of the batch.
        for layer in ("norm1", "norm2"):
            model.get_layer(layer).trainable = False
    return model


example.WideResNet = small
example.main()
"""


def start(name, *arguments, **environment):
    backend = "jax" if name == "several_machines" else "tensorflow"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", CODE, TESTS.parent / "examples", TESTS),
            *(name, "--epochs", "2", "--steps", "3", "--batch-size", "16"),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
    )


def result(process):
    """The history that an example prints, or `None`."""
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    # JAX prints lines of its own, as "[Gloo] Rank 0 is connected".
    found = [x for x in output.splitlines() if x.startswith(("{", "[{"))]
    return json.loads(found[0]) if found else None


def free_addresses(count):
    listeners = [socket.socket() for _ in range(count)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{each.getsockname()[1]}" for each in listeners]
    for listener in listeners:
        listener.close()
    return found


def assert_same(found, expected):
    assert set(keras.tree.flatten(expected)) != {0.0}
    keras.tree.assert_same_structure(found, expected)
    found, expected = map(keras.tree.flatten, (found, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def assert_same_weights(*paths):
    weights = [keras.saving.load_model(p).get_weights() for p in paths]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs the extra `jax`"
)
def test_jax(tmp_path):
    name, saved = (
        "several_machines",
        (tmp_path / "1.keras", tmp_path / "2.keras"),
    )
    one = result(start(name, "--save", saved[0]))
    history = one["student"]
    assert {"loss", "attention_loss", "accuracy", "test"} <= set(history)
    assert history["loss"][0] != history["loss"][1]

    flags = "--xla_force_host_platform_device_count=2"
    assert_same(result(start(name, XLA_FLAGS=flags)), one)

    (address,) = free_addresses(1)
    first = start(
        *(name, "--coordinator", address, "--processes", "2"),
        *("--process", "0", "--save", saved[1]),
    )
    # The second is told by its environment, as a launcher tells it.
    second = start(
        name,
        KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
        KERAS_DISTRIBUTION_NUM_PROCESSES="2",
        KERAS_DISTRIBUTION_PROCESS_ID="1",
    )
    try:
        assert_same(result(first), one)
        assert result(second) is None
    finally:
        second.kill()
    assert_same_weights(*saved)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_tensorflow(tmp_path):
    name = "several_machines_tensorflow"
    saved = (tmp_path / "1.keras", tmp_path / "2.keras")
    one = result(start(name, "--save", saved[0]))
    assert {"loss", "attention_loss", "accuracy"} <= set(one[0])
    assert one[0]["loss"] != one[1]["loss"]
    cluster = {"worker": free_addresses(2)}
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        arguments = ("--save", saved[1]) if index == 0 else ()
        processes.append(start(name, *arguments, TF_CONFIG=config))
    try:
        for process in processes:
            assert_same(result(process), one)
    finally:
        for process in processes:
            process.kill()
    assert_same_weights(*saved)
