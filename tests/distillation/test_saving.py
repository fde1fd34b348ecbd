"""Saved, killed and resumed: training ends where it would have ended."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from support.distillation import EAGER
from support.distillation import adam
from support.distillation import assert_same
from support.distillation import examples
from support.distillation import moved
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights

FIT = {"verbose": 0, "shuffle": False, "batch_size": 4}


def transfer(**arguments):
    decay = keras.optimizers.schedules.ExponentialDecay(1e3, 2, 0.5)
    model = AttentionTransferModel(
        network(dropout=0.3, regularizer="l2"),
        teacher_network(),
        beta=decay,
        alpha=0.5,
        **arguments,
    )
    model.compile(
        adam(),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        run_eagerly=EAGER,
    )
    return model


def test_config_round_trip():
    model = AttentionTransferModel(
        network(),
        teacher_network(),
        pairs=[("stage1", "stage2"), "stage2"],
        beta=keras.optimizers.schedules.ExponentialDecay(1e3, 2, 0.5),
        power=3,
        map_function="max",
        reduction="paper",
        pair_weights=[1, 0.25],
        alpha=0.5,
        temperature=2,
        logits="logits",
        gradient_transfer=0.1,
        symmetry=0.2,
        name="transfer",
    )
    config = model.get_config()
    again = AttentionTransferModel.from_config(config)
    assert again.get_config() == config
    assert again.pairs == model.pairs
    assert again.name == "transfer"
    names = ["distillation", "attention", "gradient", "symmetry"]
    assert [each.name for each in again.objectives] == names
    logits, maps, gradient, symmetry = again.objectives
    assert (logits.weight, logits.temperature) == (0.5, 2)
    assert logits.layers == [("logits", "logits")]
    assert (maps.power, maps.map_function, maps.reduction) == (
        3,
        "max",
        "paper",
    )
    assert maps.weight.get_config()["decay_rate"] == 0.5
    assert (gradient.weight, symmetry.weight) == (0.1, 0.2)


@pytest.mark.slow
def test_training_goes_on_from_a_saved_model(tmp_path):
    x, y = examples(8)
    whole = transfer()
    whole.fit(x, y, epochs=2, **FIT)
    half = transfer()
    half.fit(x, y, **FIT)
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    assert int(loaded.optimizer.iterations) == 2
    assert_same(weights(loaded.student), weights(half.student))
    assert_same(weights(loaded.teacher), weights(half.teacher))
    assert loaded.teacher.trainable
    assert loaded.pairs == half.pairs
    history = loaded.fit(x, y, **FIT).history
    assert "attention/stage1" in history
    assert_same(weights(loaded.student), weights(whole.student), atol=1e-6)
    assert_same(
        [np.asarray(v) for v in _state(loaded.optimizer)],
        [np.asarray(v) for v in _state(whole.optimizer)],
        atol=1e-6,
    )


def _state(optimizer):
    return [keras.ops.convert_to_numpy(v.value) for v in optimizer.variables]


@pytest.mark.slow
def test_checkpoints_are_loaded_in_a_new_process(tmp_path):
    x, y = examples(8)
    model = transfer()
    path = tmp_path / "checkpoint.keras"
    model.fit(x, y, callbacks=[keras.callbacks.ModelCheckpoint(path)], **FIT)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    code = (
        "import sys, keras, numpy as np, keras_attention\n"
        "folder = sys.argv[1]\n"
        "x, y = (np.load(f'{folder}/{n}.npy') for n in 'xy')\n"
        "model = keras.saving.load_model(f'{folder}/checkpoint.keras')\n"
        "model.fit(x, y, verbose=0, shuffle=False, batch_size=4)\n"
        "np.savez(f'{folder}/w.npz', *model.student.get_weights())\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        check=True,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
    )
    model.fit(x, y, **FIT)
    found = np.load(tmp_path / "w.npz")
    assert_same(
        [found[name] for name in found.files],
        weights(model.student),
        atol=1e-5,
    )


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    x, y = examples(8)
    whole = transfer()
    whole.fit(x, y, epochs=3, **FIT)

    def callbacks(*more):
        return [keras.callbacks.BackupAndRestore(tmp_path / "backup"), *more]

    killed = transfer()
    with pytest.raises(Killed):
        killed.fit(x, y, epochs=3, callbacks=callbacks(Kill(2)), **FIT)
    assert moved(weights(killed.student), weights(whole.student)) > 1e-3
    resumed = transfer()
    history = resumed.fit(x, y, epochs=3, callbacks=callbacks(), **FIT).history
    assert len(history["loss"]) == 1
    assert_same(weights(resumed.student), weights(whole.student), atol=1e-6)


def test_student_is_saved_alone(tmp_path):
    model = transfer()
    model.fit(*examples(8), **FIT)
    model.student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    x = examples()[0]
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )
    assert loaded.count_params() == model.count_params()


@pytest.mark.tensorflow
def test_export_is_the_students(tmp_path):
    import tensorflow as tf

    model = transfer()
    model.fit(*examples(8), **FIT)
    model.student.export(tmp_path / "student", verbose=False)
    served = tf.saved_model.load(tmp_path / "student")
    x = examples()[0]
    np.testing.assert_allclose(
        served.serve(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    assert len(served.variables) == len(model.student.variables)
