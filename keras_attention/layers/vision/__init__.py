"""Layers that take an image."""

from keras_attention.layers.vision.squeeze_excite import (
    SqueezeExcite as SqueezeExcite,
)
