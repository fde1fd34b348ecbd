"""One call or one training step of a layer, as a compiled function."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

MODES = {"graph": False, "XLA": True}
# Where XLA would take most of the time, since that goes to compiling.
GRAPH = {"graph": False}
PASSES = ("forward", "forward+backward")


def draw(*shape: int) -> tf.Tensor:
    """Random input, sampled again at every call."""
    return tf.constant(
        np.random.default_rng().normal(size=shape).astype("float32")
    )


def compiled(
    function: Callable[..., Any],
    weights: list,
    inputs: list[tf.Tensor],
    backward: bool,
    jit: bool,
    upstream: tf.Tensor | None = None,
) -> Callable[[], Any]:
    """A function of no arguments that runs the graph of one pass.

    The backward pass gives the gradients to the inputs and the weights of
    the sum of the output times `upstream`, or a random tensor.
    """
    if not backward:
        graph = tf.function(function, jit_compile=jit)
        return lambda: graph(*inputs)
    if upstream is None:
        upstream = draw(*function(*inputs).shape)
    values = [weight.value for weight in weights]

    @tf.function(jit_compile=jit)
    def step(upstream, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        found = tape.gradient(y, [*inputs, *values], upstream)
        return y, *found

    return lambda: step(upstream, *inputs)


def check_equal(
    expected: Any, found: Any, name: str, tolerance: float = 1e-3
) -> None:
    """Stop the benchmark if two ways do not give one result.

    Each tensor is compared on the scale of its largest value, or of a
    hundredth of the largest of all: some gradients are zero on paper, and
    rounding is all there is to them.
    """
    expected, found = tf.nest.flatten(expected), tf.nest.flatten(found)
    scales = [float(tf.reduce_max(tf.abs(one))) + 1e-12 for one in expected]
    least = max(scales, default=0) / 100
    for one, other, scale in zip(expected, found, scales, strict=True):
        error = float(tf.reduce_max(tf.abs(one - other))) / max(scale, least)
        if not error < tolerance:
            raise RuntimeError(
                f"{name}: the result differs from its reference by "
                f"{error:.1e} of its largest value"
            )
