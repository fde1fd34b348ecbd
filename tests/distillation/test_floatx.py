"""With another dtype of Keras, a user's losses are of that dtype."""

import keras
import numpy as np
import pytest

from support.distillation import compiled
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network


@pytest.fixture
def floatx():
    before = keras.config.floatx()
    yield keras.config.set_floatx
    keras.config.set_floatx(before)


def parts(**arguments):
    model = compiled(
        network(regularizer="l2"), teacher_network(), alpha=0.5, **arguments
    )
    history = model.fit(*examples(4), verbose=0).history
    return {name: float(found[0]) for name, found in history.items()}


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_one_step(floatx, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 by default")
    expected = parts()
    floatx(dtype)
    found = parts()
    assert found.keys() == expected.keys()
    tolerance = {"float64": 1e-5, "float16": 2e-2, "bfloat16": 0.2}[dtype]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], tolerance, tolerance)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has no float64 by default"
)
def test_gradients_at_the_images_in_float64(floatx):
    """Of wider numbers than the outputs, which the networks have in float32."""
    expected = parts(symmetry=0.1)
    floatx("float64")
    found = parts(symmetry=0.1)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], 1e-4, 1e-5)
