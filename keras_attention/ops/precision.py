"""Casting to and from half precision."""

from typing import Any

import keras
from keras import ops

from keras_attention.types import Tensor

HALF = ("float16", "bfloat16")


def wide_dtype(x: Tensor) -> str:
    """Dtype of `x`, float32 for half precision."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return "float32" if dtype in HALF else dtype


def to_float(x: Tensor, dtype: str | None = None) -> Any:
    """Cast integers and booleans to floats; leave floats alone.

    Args:
        x: Tensor.
        dtype: Dtype of the result for them. Defaults to `None`, Keras'
            default.

    Raises:
        TypeError: For complex numbers, whose imaginary part would be lost, and
            for other dtypes, such as strings.
    """
    found = check_real(x)
    return (
        x if "float" in found else ops.cast(x, dtype or keras.config.floatx())
    )


def check_real(x: Tensor) -> str:
    """Return the dtype of `x`; raise `TypeError` unless it has real numbers."""
    found = keras.backend.standardize_dtype(x.dtype)
    if not any(kind in found for kind in ("float", "int", "bool")):
        raise TypeError(
            "Tensors must be of floats, integers or booleans. Received: a "
            f"tensor of dtype {found}"
        )
    return found


def widen(x: Tensor) -> Any:
    """Cast half-precision floats to float32; leave wider floats alone."""
    is_half = keras.backend.standardize_dtype(x.dtype) in HALF
    return ops.cast(x, "float32") if is_half else x
