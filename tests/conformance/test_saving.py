"""A saved layer comes back in a process that only imports the package."""

import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from conformance.harness import BACKEND
from conformance.harness import make_layer
from conformance.harness import make_model
from conformance.harness import random_input
from conformance.harness import randomize_all
from conformance.harness import variants_slow
from conformance.rows import EVERY_ARGUMENT
from conformance.rows import ROWS
from support.arrays import assert_close
from support.arrays import numpy

TABLE = ROWS + EVERY_ARGUMENT
KINDS = ("keras", "h5", "weights.h5", "int8")
LOAD = """
import json, sys
import keras, numpy as np
import keras_attention

folder = sys.argv[1]

def load(kind, name):
    if kind == "weights.h5":
        text = open(f"{folder}/{name}.json").read()
        model = keras.models.model_from_json(text)
        model.load_weights(f"{folder}/{name}.weights.h5")
        return model
    suffix = {"int8": "int8.keras"}.get(kind, kind)
    return keras.saving.load_model(f"{folder}/{name}.{suffix}", compile=False)

errors = {}
for name, kinds in json.load(open(f"{folder}/names.json")).items():
    x = np.load(f"{folder}/{name}.x.npy")
    for kind in kinds:
        try:
            y = keras.ops.convert_to_numpy(load(kind, name)(x))
            np.save(f"{folder}/{name}.{kind}.npy", y)
        except Exception as error:
            errors[f"{name}.{kind}"] = f"{type(error).__name__}: {error}"
json.dump(errors, open(f"{folder}/errors.json", "w"))
"""

names = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])


def model_of(row):
    """A model whose only layer has no weight at its initial value."""
    first = row.arguments.get("data_format") == "channels_first"
    *sizes, channels = row.shape[1:]
    shape = (channels, *sizes) if first else (*sizes, channels)
    inputs = keras.Input(shape, name="x")
    layer = make_layer(row)
    model = keras.Model(inputs, layer(inputs))
    randomize_all(layer)
    return model, random_input(row, layer=layer)


def quantizable(model):
    """The layers that Keras can quantize, at any depth."""
    kinds = (keras.layers.Dense, keras.layers.EinsumDense)
    return [layer for layer in model._flatten_layers() if type(layer) in kinds]


def quantize(model):
    with warnings.catch_warnings():
        # Of the layers that have nothing to quantize.
        warnings.simplefilter("ignore")
        model.quantize("int8")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save every row in every form, load all of them in one new process."""
    folder = tmp_path_factory.mktemp("saved")
    expected, kinds = {}, {}
    for row in TABLE:
        model, x = model_of(row)
        name = row.name
        np.save(folder / f"{name}.x.npy", x)
        expected[name, "keras"] = numpy(model(x))
        kinds[name] = ["keras", "h5", "weights.h5"]
        model.save(folder / f"{name}.keras")
        # The older form, which Keras says is the older one.
        keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(
            model, str(folder / f"{name}.h5")
        )
        model.save_weights(folder / f"{name}.weights.h5")
        (folder / f"{name}.json").write_text(model.to_json())
        # Keras refuses to quantize float16.
        if row in ROWS and quantizable(model):
            kinds[name].append("int8")
            quantize(model)
            expected[name, "int8"] = numpy(model(x))
            model.save(folder / f"{name}.int8.keras")
    (folder / "names.json").write_text(json.dumps(kinds))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": BACKEND},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    errors = json.loads((folder / "errors.json").read_text())
    return folder, expected, kinds, errors


@names
def test_loaded_in_a_new_process_equals_saved(row, saved):
    folder, expected, kinds, errors = saved
    for kind in kinds[row.name]:
        assert f"{row.name}.{kind}" not in errors, errors
        y = np.load(folder / f"{row.name}.{kind}.npy")
        wanted = expected[row.name, "int8" if kind == "int8" else "keras"]
        np.testing.assert_allclose(
            y, wanted, rtol=1e-6, atol=1e-7, err_msg=kind
        )


@names
def test_words_that_became_functions(row):
    """The reader of `.h5` makes `keras.layers.add` of the argument "add"."""
    config = make_layer(row).get_config()
    read = {
        name: getattr(keras.layers, value, value)
        if isinstance(value, str) and name != "name"
        else value
        for name, value in config.items()
    }
    assert row.layer.from_config(read).get_config() == config


@pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.variant], ids=lambda row: row.name
)
def test_sublayers_stay_quantized(row):
    """In a clone, under another name, and inside another model."""
    model, x = model_of(row)
    if not quantizable(model):
        return
    quantize(model)
    layer = model.layers[-1]
    policies = {each.dtype_policy.name for each in quantizable(model)}
    config = {**layer.get_config(), "name": "renamed"}
    rebuilt = type(layer).from_config(config)
    outer = keras.Sequential([keras.Input(x.shape[1:]), rebuilt])
    assert {each.dtype_policy.name for each in quantizable(outer)} == policies
    outer.set_weights(model.get_weights())
    np.testing.assert_allclose(numpy(outer(x)), numpy(model(x)), rtol=1e-6)
    assert rebuilt.get_config()["dtype"] == layer.get_config()["dtype"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("row", variants_slow(ROWS))
def test_exported_equals_eager(row, tmp_path):
    import tensorflow as tf

    model = make_model(row)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    x = random_input(row)
    cases = [x, x[:1]]
    if not row.static_size:
        cases.append(np.concatenate([x, x[:, ::-1]], axis=1))
    for case in cases:
        assert_close(exported.serve(case), model(case))
