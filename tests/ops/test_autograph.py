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
from keras_attention.ops.attention.dispatch import choose_path

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


@pytest.mark.parametrize("function", [choose_path, AttentionGate.compute_gate])
def test_what_could_not_be_transformed(function):
    """Of those above, two that once could not be, in every run."""
    tf.autograph.to_code(function)
