"""What the tests of the networks share."""

import numpy as np
import pytest


def count_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def first_of(cases, count):
    """Cases to parametrize by; those after the first few are slow."""
    return [
        case
        if number < count
        else pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=pytest.mark.slow,
        )
        for number, case in enumerate(cases)
    ]
