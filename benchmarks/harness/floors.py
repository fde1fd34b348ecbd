"""What the machine can do at best, measured in the same rounds."""

from collections.abc import Callable

import tensorflow as tf


def scale(x: tf.Tensor) -> Callable[[], tf.Tensor]:
    """Multiply by a scalar: the bytes of `x` are read once and written once.

    A gate's forward pass moves at least three times the bytes of its input
    (read for the squeeze, read and write for the scale), forward and
    backward together seven times. So the floors are 1.5 and 3.5 times the
    time of this.
    """
    factor = tf.constant(1.0001)
    multiply = tf.function(lambda x: x * factor)
    return lambda: multiply(x)


def products(shapes: list[tuple[tuple, tuple]]) -> Callable[[], None]:
    """The matrix products of these sizes, and nothing else."""
    pairs = [
        (tf.random.normal(left), tf.random.normal(right))
        for left, right in shapes
    ]
    multiply = tf.function(tf.matmul)

    def run():
        for left, right in pairs:
            multiply(left, right)

    return run
