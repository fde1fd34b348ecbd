"""Seeds for what Keras draws by itself."""

import contextlib
from unittest import mock

import keras


def seed_keras(seed):
    """Set the seeds of Keras, of `random` and of NumPy, and not TensorFlow's.

    `tf.random.set_seed`, which `keras.utils.set_random_seed` calls too, empties
    TensorFlow's cache of kernels; to fill it again takes longer than a small
    layer. Keras asks TensorFlow's generator only to shuffle in `fit`.
    """
    with (
        mock.patch("tensorflow.random.set_seed")
        if keras.backend.backend() == "tensorflow"
        else contextlib.nullcontext()
    ):
        keras.utils.set_random_seed(seed)
