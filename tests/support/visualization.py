"""Models to be drawn, and what counts how often they run."""

import keras
import numpy as np

import keras_attention as ka
from keras_attention.models import TransformerLanguageModel
from support.seeds import seed_keras

TOKENS = np.array([[2, 5, 6, 7, 3, 0, 0]], "int32")
WORDS = ["[BOS]", "the", "$dog$", "barks", "[EOS]", "[PAD]", "[PAD]"]


def count_calls(model):
    """A list that grows by one with each call of the model."""
    calls, original = [], model.call

    def call(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    model.__dict__["call"] = call
    return calls


def image_model():
    seed_keras(0)
    inputs = keras.Input((12, 10, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = ka.SqueezeExcite(4, name="squeeze")(x)
    x = ka.CBAM(4, name="cbam")(x)
    branch = keras.layers.Conv2D(8, 3, padding="same", name="branch")(x)
    x = keras.layers.Add(name="add")([x, branch])
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.MaxPooling2D(name="down")(x)
    x = keras.layers.Conv2D(11, 3, padding="same", name="last")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x), name="images")


def images(count=3):
    return np.random.default_rng(0).normal(size=(count, 12, 10, 3))


def language_model(mixer="attention", **arguments):
    seed_keras(0)
    return TransformerLanguageModel(
        11,
        mixer,
        width=12,
        num_blocks=2,
        num_heads=3,
        feed_forward_dim=8,
        **arguments,
    )


def masked_model(causal=True):
    """Self-attention that masks its padding, by Keras' own layers and ours."""
    seed_keras(0)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, 8, mask_zero=True)(inputs)
    x = ka.MultiHeadAttention(2, causal=causal, name="ours")(x)
    x = keras.layers.MultiHeadAttention(3, 4, name="theirs")(
        x, x, use_causal_mask=causal
    )
    return keras.Model(inputs, x)


def drawn(ax, number=0):
    """The values of the image that axes show; what is masked is NaN."""
    return np.ma.filled(ax.images[number].get_array().astype(float), np.nan)
