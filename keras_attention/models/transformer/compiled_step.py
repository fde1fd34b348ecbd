"""A step of decoding, compiled where the backend compiles."""

from collections.abc import Callable
from typing import Any

import keras


def compiled_step(
    model: keras.Model, name: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    """Return `function`, compiled, and kept with the model under `name`.

    Args:
        model: the model whose variables the function reads.
        name: Name of the function; a second call with it returns the first
            one's.
        function: Function of tensors and structures of tensors.
    """
    # Past Keras' tracking of attributes, and not saved with the model.
    steps = model.__dict__.setdefault("_compiled_steps", {})
    if name not in steps:
        steps[name] = _compile(model, function)
    return steps[name]


def _compile(model, function):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if backend == "jax":
        import jax

        # Variables go in as arguments: as constants of the trace they would
        # stay as they were when it was made.
        @jax.jit
        def run(values, *arguments):
            state = list(zip(model.variables, values, strict=True))
            with keras.StatelessScope(state_mapping=state):
                return function(*arguments)

        return lambda *arguments: run(
            [variable.value for variable in model.variables], *arguments
        )
    if backend == "torch":
        import torch

        return torch.no_grad()(function)
    return function
