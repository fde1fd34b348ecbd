"""Processes that are killed and started again end where one would have."""

import os
import pathlib
import random
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

TESTS = pathlib.Path(__file__).parents[1]
COMMON = """
import os
import signal
import sys

tests, folder, out, kill_at = sys.argv[1:]
kill_at = int(kill_at)
sys.path.insert(0, tests)
import keras
import numpy as np
from support.distillation import EAGER
from support.distillation import adam
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network
from keras_attention import AttentionTransferModel
from keras_attention.distillation import precompute_teacher


def count():
    # Kills the process, as the system does, at the step that was drawn.
    count.steps += 1
    if count.steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


count.steps = 0
"""

EPOCHS, STEPS = 4, 3
TRAINING = (
    COMMON
    + f"""
class Count(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        count()


student = network(dropout=0.3)
model = AttentionTransferModel(student, teacher_network(), alpha=0.5)
rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)
model.compile(
    adam(rate),
    "sparse_categorical_crossentropy",
    run_eagerly=EAGER,
)
x, y = examples({2 * STEPS})
model.fit(
    x,
    y,
    batch_size=2,
    epochs={EPOCHS},
    shuffle=False,
    verbose=0,
    callbacks=[keras.callbacks.BackupAndRestore(folder), Count()],
)
np.savez(out, *student.get_weights())
"""
)

BATCHES = 6
PRECOMPUTING = (
    COMMON
    + f"""
class Batches(keras.utils.PyDataset):
    num_batches = {BATCHES}

    def __getitem__(self, index):
        count()
        return tuple(a[3 * index : 3 * index + 3] for a in arrays)


arrays = examples({3 * BATCHES})
precompute_teacher(
    teacher_network(),
    Batches(),
    ["stage1", "stage2"],
    logits=True,
    path=out,
    verbose=False,
)
"""
)


def run(code, folder, out, kill_at=0):
    """Run code in a process; say whether it lived to its end."""
    result = subprocess.run(
        [sys.executable, "-c", code, TESTS, folder, out, str(kill_at)],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
    )
    assert result.returncode in (0, -signal.SIGKILL), result.stderr[-3000:]
    return result.returncode == 0


def test_training_resumes_to_the_same_weights(tmp_path):
    assert run(TRAINING, tmp_path / "none", tmp_path / "whole.npz")
    backup, out = tmp_path / "backup", tmp_path / "out.npz"
    draw = random.Random(0)
    # Before the first checkpoint, in the first step after one, anywhere.
    kills = [draw.randint(1, STEPS), STEPS + 1]
    kills.append(draw.randint(STEPS + 1, 2 * STEPS))
    for kill_at in kills:
        assert not run(TRAINING, backup, out, kill_at), kills
        assert not out.exists()
    assert run(TRAINING, backup, out)
    whole, resumed = np.load(tmp_path / "whole.npz"), np.load(out)
    assert len(whole.files) > 10
    for name in whole.files:
        np.testing.assert_allclose(
            resumed[name], whole[name], rtol=0, atol=1e-6, err_msg=str(kills)
        )


def test_precomputing_resumes_to_the_same_file(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(PRECOMPUTING, tmp_path, whole)
    draw = random.Random(1)
    kills = [draw.randint(1, 2), draw.randint(3, 4), draw.randint(5, BATCHES)]
    for kill_at in kills:
        assert not run(PRECOMPUTING, tmp_path, out, kill_at), kills
        assert not out.exists()
    assert run(PRECOMPUTING, tmp_path, out)
    assert out.read_bytes() == whole.read_bytes(), kills
