"""A saved layer comes back in a process that only imports the package."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from conformance.harness import BACKEND
from conformance.harness import make_model
from conformance.harness import random_input
from conformance.harness import variants_slow
from conformance.rows import ROWS
from support.arrays import numpy

LOAD = """
import json, sys
import keras, numpy as np
import keras_attention

for name in json.load(open(sys.argv[1] + "/names.json")):
    model = keras.saving.load_model(f"{sys.argv[1]}/{name}.keras")
    x = np.load(f"{sys.argv[1]}/{name}.x.npy")
    y = keras.ops.convert_to_numpy(model(x))
    np.save(f"{sys.argv[1]}/{name}.y.npy", y)
"""

names = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save every row, load all of them in one new process."""
    folder = tmp_path_factory.mktemp("saved")
    expected = {}
    for row in ROWS:
        model, x = make_model(row), random_input(row)
        model.save(folder / f"{row.name}.keras")
        np.save(folder / f"{row.name}.x.npy", x)
        expected[row.name] = numpy(model(x))
    (folder / "names.json").write_text(json.dumps(list(expected)))
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": BACKEND},
    )
    return folder, expected, result


@names
def test_loaded_in_a_new_process_equals_saved(row, saved):
    folder, expected, result = saved
    path = folder / f"{row.name}.y.npy"
    assert path.exists(), result.stderr[-2000:]
    np.testing.assert_allclose(
        np.load(path), expected[row.name], rtol=1e-6, atol=1e-7
    )


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
        expected = model(case).numpy()
        # Of large outputs, a small one is the difference of large terms.
        atol = 1e-6 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(
            exported.serve(case), expected, rtol=1e-5, atol=atol
        )
