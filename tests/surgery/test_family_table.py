"""The table of insertion points is what is found, and Grad-CAM finds a map."""

import re

import keras
import numpy as np
import pytest

from keras_attention.inspection import stages
from keras_attention.visualization import class_activation
from surgery import families

LINES = families.FILE.read_text(encoding="utf-8").splitlines()


def test_every_family_has_its_row():
    names = [line.split(" | ")[0].strip("| `") for line in LINES]
    assert names == list(families.FAMILIES)
    table = families.table().splitlines()
    assert set(LINES) <= set(table)
    rows = [line for line in table if line.startswith("| ")]
    assert {line.count(" | ") for line in rows} == {4}
    used = set(re.findall(r"\((\d)\) \|", "\n".join(rows)))
    assert used == {str(n + 1) for n in range(len(families.NOTES))}


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:.*comes back as a plain model")
@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_row_is_what_is_found(family):
    assert families.row(family) in LINES


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "name", [n for n in families.APPLICATIONS if n != "VGG16"]
)
def test_class_activation(name):
    """Each ends in its own way, and has a softmax that is bypassed."""
    model = families.application(name)
    size = model.input_shape[1:]
    x = np.random.default_rng(0).uniform(0, 255, (2, *size)).astype("float32")
    found = class_activation(model, x)
    ends = [stage for stage in stages(model) if max(stage.size) > 1]
    assert found.layer == ends[-1].name
    assert found.maps.shape == (2, *ends[-1].size)
    assert np.isfinite(found.maps).all()
    np.testing.assert_allclose(
        found.probabilities,
        keras.ops.convert_to_numpy(model(x, training=False)),
        rtol=1e-4,
    )
