"""One pass of a layer as a function without arguments, on every backend.

A function returns when its work is done, on a GPU too.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def backend() -> str:
    return keras.backend.backend()


def device() -> str:
    """`"gpu"` or `"cpu"`."""
    if backend() == "torch":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    if backend() == "jax":
        import jax

        return "gpu" if jax.default_backend() == "gpu" else "cpu"
    import tensorflow as tf

    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def to_tensor(array: np.ndarray, dtype: str) -> Any:
    """The array on the backend's device."""
    return keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)


def step(
    call: Callable[..., Any],
    variables: list,
    inputs: list,
    backward: bool,
    upstream: Any = None,
) -> Callable[[], list]:
    """One pass, compiled where the backend's training is.

    Args:
        call: Function of `inputs` to a tensor.
        variables: Keras variables that the gradients are taken to, after
            the inputs.
        inputs: Tensors.
        backward: Whether gradients are computed.
        upstream: Gradient of the output.

    Returns:
        Function to `[output, *gradients]`.
    """
    make = {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}
    return make[backend()](call, variables, inputs, backward, upstream)


def peak_on_gpu(run: Callable[[], Any]) -> int | None:
    """Bytes above the inputs that a call takes; `None` if not known.

    JAX' peak is that of the process: it is only right in a fresh one.
    """
    run()
    if backend() == "torch":
        import torch

        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    if backend() == "jax":
        import jax

        before = jax.devices()[0].memory_stats()
        return before["peak_bytes_in_use"] - before["bytes_in_use"]
    return None


def _torch(call, variables, inputs, backward, upstream):
    import torch

    def wait(tensors):
        if tensors[0].is_cuda:
            torch.cuda.synchronize()
        return tensors

    if not backward:

        def forward():
            with torch.no_grad():
                return wait([call(*inputs)])

        return forward
    sources = [*inputs, *(variable.value for variable in variables)]
    for source in sources:
        source.requires_grad_()

    def train():
        output = call(*inputs)
        gradients = torch.autograd.grad(output, sources, upstream)
        return wait([output.detach(), *gradients])

    return train


def _jax(call, variables, inputs, backward, upstream):
    import jax

    def stateless(values, inputs):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return call(*inputs)

    def forward(values, inputs, upstream):
        return [stateless(values, inputs)]

    def train(values, inputs, upstream):
        output, pull_back = jax.vjp(stateless, values, inputs)
        to_values, to_inputs = pull_back(upstream)
        return [output, *to_inputs, *to_values]

    compiled = jax.jit(train if backward else forward)
    values = [variable.value for variable in variables]
    return lambda: jax.block_until_ready(compiled(values, inputs, upstream))


def _tensorflow(call, variables, inputs, backward, upstream):
    import tensorflow as tf

    values = [variable.value for variable in variables]

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = call(*inputs)
        if not backward:
            return [output]
        return [output, *tape.gradient(output, [*inputs, *values], upstream)]

    return train
