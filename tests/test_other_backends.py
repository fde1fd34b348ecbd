"""A backend of Keras that this package has no code for: OpenVINO's."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_attention as ka

pytestmark = pytest.mark.tensorflow

SCRIPT = """
import sys

import keras
import numpy as np

import keras_attention as ka
from keras_attention.models import WideResNet

model = keras.saving.load_model(sys.argv[1])
inputs = np.load(sys.argv[2])
outputs = model.predict(dict(inputs), verbose=0)
network = WideResNet(10, 1, input_shape=(8, 8, 1), classes=3)
np.savez(sys.argv[3], *outputs)
try:
    ka.AttentionTransferModel(network, network)
except NotImplementedError as error:
    print(error)
"""


@pytest.mark.slow
def test_layers_are_right_and_training_is_refused(tmp_path):
    pytest.importorskip("openvino", reason="needs the extra 'openvino'")
    keras.utils.set_random_seed(1)
    sequence = keras.Input((5, 8), name="sequence")
    image = keras.Input((6, 7, 8), name="image")
    sequence_layers = [
        ka.MultiHeadAttention(2, causal=True),
        ka.MultiHeadAttention(4, num_kv_heads=2, positions="rotary"),
        ka.LightweightConv1D(2, 3),
        ka.Retention(2),
        ka.GatedDeltaNet(2),
    ]
    gates = [ka.SqueezeExcite(), ka.CBAM(), ka.EfficientChannelAttention()]
    model = keras.Model(
        {"sequence": sequence, "image": image},
        [layer(sequence) for layer in sequence_layers]
        + [layer(image) for layer in gates],
    )
    random = np.random.default_rng(2)
    inputs = {
        "sequence": random.normal(size=(2, 5, 8)).astype("float32"),
        "image": random.normal(size=(2, 6, 7, 8)).astype("float32"),
    }
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [tmp_path / n for n in ("model.keras", "inputs.npz", "out.npz")]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, paths)],
        env={**os.environ, "KERAS_BACKEND": "openvino"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "AttentionTransferModel works on the backends" in result.stdout
    assert "'openvino'" in result.stdout
    found = np.load(paths[2])
    expected = model.predict(inputs, verbose=0)
    assert len(found.files) == len(expected)
    for name, y in zip(found.files, expected, strict=True):
        # OpenVINO's CPU computes in bfloat16 where the processor has it.
        np.testing.assert_allclose(found[name], y, atol=0.02 * abs(y).max())
