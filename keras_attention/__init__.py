"""Attention mechanisms for Keras models."""

from keras_attention.layers import MultiHeadAttention as MultiHeadAttention
from keras_attention.layers import (
    ScaledDotProductAttention as ScaledDotProductAttention,
)
from keras_attention.layers import SqueezeExcite as SqueezeExcite

__version__ = "0.1.0"
