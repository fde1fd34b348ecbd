"""Casting to and from half precision."""

from typing import Any

import keras
from keras import ops

from keras_attention.types import Tensor

HALF = ("float16", "bfloat16")


def widen(x: Tensor) -> Any:
    """Cast half-precision floats to float32; leave wider floats alone."""
    is_half = keras.backend.standardize_dtype(x.dtype) in HALF
    return ops.cast(x, "float32") if is_half else x
