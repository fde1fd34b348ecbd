"""Conversion and comparison of any backend's tensors."""

import keras
import numpy as np


def numpy(x):
    """Return an array; floating-point numbers become float64, exactly."""
    array = keras.ops.convert_to_numpy(x)
    dtype = keras.backend.standardize_dtype(array.dtype)
    return array.astype("float64" if "float" in dtype else dtype)


def assert_close(found, expected, rtol=1e-5, err_msg=""):
    """Compare two computations in float32 of the same values.

    Each value may be off by `rtol` of the largest one: a small value is often
    the difference of large terms, and processors sum these in their own order.
    """
    found, expected = numpy(found), numpy(expected)
    atol = rtol * max(0.1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(
        found, expected, rtol=rtol, atol=atol, err_msg=err_msg
    )
