"""How a time or a memory grows with the length."""

from collections.abc import Sequence

import numpy as np


def exponent(lengths: Sequence[float], values: Sequence[float]) -> float:
    """The power of the length that the values grow with, by least squares."""
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])
