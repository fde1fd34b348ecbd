"""Conversion of any backend's tensors."""

import keras


def numpy(x):
    """Return an array; floating-point numbers become float64, exactly."""
    array = keras.ops.convert_to_numpy(x)
    dtype = keras.backend.standardize_dtype(array.dtype)
    return array.astype("float64" if "float" in dtype else dtype)
