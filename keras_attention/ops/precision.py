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


def widen(x: Tensor) -> Any:
    """Cast half-precision floats to float32; leave wider floats alone."""
    is_half = keras.backend.standardize_dtype(x.dtype) in HALF
    return ops.cast(x, "float32") if is_half else x
