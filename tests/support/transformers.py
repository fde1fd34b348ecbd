"""Small networks for text, and a mixer of a user's."""

import keras
import numpy as np
import pytest

from keras_attention.models import TransformerEncoderDecoder
from keras_attention.models import TransformerLanguageModel
from support.seeds import seed_keras

MIXERS = ["attention", "lightweight", "dynamic", "convolution", "lstm"]
SMALL = {"width": 16, "num_heads": 4, "feed_forward_dim": 23}
TOKENS = np.array([[2, 7, 9, 4, 5, 6, 3], [2, 5, 6, 8, 9, 3, 4]])
SOURCE = np.array([[7, 9, 3, 0, 0], [5, 6, 8, 4, 3]])

mixers = pytest.mark.parametrize("mixer", MIXERS)


def language_model(mixer="attention", **arguments):
    seed_keras(1)
    arguments = {"num_blocks": 2, **SMALL, **arguments}
    return TransformerLanguageModel(11, mixer, **arguments)


def translator(mixer="attention", **arguments):
    seed_keras(1)
    blocks = {"num_encoder_blocks": 2, "num_decoder_blocks": 2}
    return TransformerEncoderDecoder(
        11, 13, mixer, **{**blocks, **SMALL, **arguments}
    )


@keras.saving.register_keras_serializable(package="test")
class Average(keras.layers.Layer):
    """A user's mixer: the mean of what came before. No mask, no cache."""

    def call(self, inputs):
        total = keras.ops.cumsum(inputs, axis=1)
        count = keras.ops.arange(1, keras.ops.shape(inputs)[1] + 1)
        return total / keras.ops.cast(count, inputs.dtype)[:, None]
