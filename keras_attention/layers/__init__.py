"""Every public layer, by the kind of tensor that it takes."""

from keras_attention.layers.sequence import (
    MultiHeadAttention as MultiHeadAttention,
)
from keras_attention.layers.sequence import (
    ScaledDotProductAttention as ScaledDotProductAttention,
)
from keras_attention.layers.vision import SqueezeExcite as SqueezeExcite
