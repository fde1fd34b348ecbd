"""Sums over rows or channels of an image, which compilers write slowly.

On the CPU they are matrix products with ones. Other devices may round a
product's factors: there they are sums.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.compilation import inside_xla


def sum_rows(rows: Any) -> Any:
    """Sum over the second axis: `(B, N, C)` to `(B, 1, C)`."""
    if not multiplies_in_full():
        return ops.sum(rows, axis=1, keepdims=True)
    batch, size = ops.shape(rows)[:2]
    return ops.ones((batch, 1, size), dtype=rows.dtype) @ rows


def sum_channels(x: Any) -> Any:
    """Sum over the last axis: `(..., C)` to `(..., 1)`.

    The product is faster under XLA alone.
    """
    if not (inside_xla() and multiplies_in_full()):
        return ops.sum(x, axis=-1, keepdims=True)
    return ops.tensordot(x, ops.ones((x.shape[-1], 1), dtype=x.dtype), 1)


def multiplies_in_full() -> bool:
    """Whether there is no device that would round a product's factors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_physical_devices("GPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return False
