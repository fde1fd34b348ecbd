"""What the tests of the networks share."""

import numpy as np


def count_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)
