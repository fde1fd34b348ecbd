"""What is called inside a `tf.function` is transformed by AutoGraph.

What it cannot transform, such as a generator, runs too, with a warning on the
user's terminal.
"""

import importlib
import inspect
import pkgutil

import pytest

import keras_attention
from keras_attention.layers import AttentionGate

tf = pytest.importorskip("tensorflow", reason="AutoGraph is TensorFlow's")
pytestmark = pytest.mark.tensorflow

PACKAGES = ("ops", "positions", "distillation.losses", "layers")
# Of what JAX or torch compute.
OTHER_BACKENDS = ("cudnn_attention", "torch_attention")


def modules():
    prefix = f"{keras_attention.__name__}."
    for found in pkgutil.walk_packages(keras_attention.__path__, prefix):
        if found.name.removeprefix(prefix).startswith(
            PACKAGES
        ) and not found.name.endswith(OTHER_BACKENDS):
            yield importlib.import_module(found.name)


def functions():
    """All of `ops`, and the public methods of layers."""
    for module in modules():
        for name, found in vars(module).items():
            if getattr(found, "__module__", None) != module.__name__:
                continue
            if inspect.isgeneratorfunction(inspect.unwrap(found)):
                continue  # A context manager.
            if inspect.isfunction(found) and ".layers." not in module.__name__:
                yield pytest.param(found, id=f"{module.__name__}.{name}")
            if inspect.isclass(found):
                for method in ("compute_gate", "call"):
                    if inspect.isfunction(vars(found).get(method)):
                        yield pytest.param(
                            vars(found)[method], id=f"{name}.{method}"
                        )


@pytest.mark.slow
@pytest.mark.parametrize("function", list(functions()))
def test_transformed(function):
    tf.autograph.to_code(inspect.unwrap(function))


def test_no_warning_is_printed(capfd):
    layer, x = AttentionGate(), tf.ones((2, 5, 7, 3))

    @tf.function
    def gate(x):
        return layer.compute_gate([x, x])

    @tf.function
    def attend(x):
        return keras_attention.ops.scaled_dot_product_attention(x, x, x)

    assert gate(x).shape == (2, 5, 7, 1)
    assert attend(x).shape == x.shape
    assert "AutoGraph" not in capfd.readouterr().err
