"""Gradients, for which Keras has no backend-neutral function."""

from collections.abc import Callable
from typing import Any

import keras

from keras_attention.validation import check_backend


def value_and_input_gradient(
    function: Callable[[Any], tuple[Any, Any]], inputs: Any
) -> tuple[Any, Any]:
    """Return the gradient of a function at its input, and what else it gives.

    Args:
        function: maps `inputs` to `(scalar, anything)`; called once.
        inputs: one tensor of floats.

    Returns:
        `(gradient, anything)`. The gradient can be differentiated again.
    """
    check_backend("A gradient at the input")
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function, has_aux=True)(inputs)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_(True)
            value, others = function(inputs)
            (gradient,) = torch.autograd.grad(value, inputs, create_graph=True)
        return gradient, others
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value, others = function(inputs)
    return tape.gradient(value, inputs), others
