"""Two processes, and two devices of one, have the losses of one process."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="the example is one of JAX"
)

TESTS = pathlib.Path(__file__).parents[1]
# The example itself, with networks that compile in seconds.
CODE = """
import sys

sys.path[:0] = sys.argv[1:3]
del sys.argv[1:3]
import several_machines
from distillation.distillation_common import network


def small(depth, width, input_shape):
    return network(filters=(3 * width, 5 * width), channels=1, classes=10)


several_machines.WideResNet = small
several_machines.main()
"""
ARGUMENTS = ["--epochs", "2", "--steps", "3", "--batch-size", "16"]


def start(*arguments, **environment):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            CODE,
            TESTS.parent / "examples",
            TESTS,
            *ARGUMENTS,
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax", **environment},
    )


def result(process):
    """What the example prints: the history, or nothing."""
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output) if output else None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def assert_same(found, expected):
    flat, expected = (keras.tree.flatten(each) for each in (found, expected))
    assert len(flat) == len(expected) > 20
    np.testing.assert_allclose(flat, expected, rtol=1e-4)


def test_losses_are_those_of_one_process(tmp_path):
    one = result(start("--save", tmp_path / "one.keras"))
    history = one["student"]
    assert {"loss", "attention_loss", "accuracy", "test"} <= set(history)
    assert history["loss"][0] != history["loss"][1]

    flags = "--xla_force_host_platform_device_count=2"
    assert_same(result(start(XLA_FLAGS=flags)), one)

    address = f"127.0.0.1:{free_port()}"
    first = start(
        *("--coordinator", address, "--processes", "2", "--process", "0"),
        *("--save", tmp_path / "two.keras"),
    )
    # The second is told by its environment, as a launcher tells it.
    second = start(
        KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
        KERAS_DISTRIBUTION_NUM_PROCESSES="2",
        KERAS_DISTRIBUTION_PROCESS_ID="1",
    )
    try:
        assert_same(result(first), one)
        assert result(second) is None
    finally:
        second.kill()

    weights = [
        keras.saving.load_model(tmp_path / name).get_weights()
        for name in ("one.keras", "two.keras")
    ]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
