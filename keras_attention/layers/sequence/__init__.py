"""Layers that take a sequence."""

from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention as MultiHeadAttention,
)
from keras_attention.layers.sequence.scaled_dot_product_attention import (
    ScaledDotProductAttention as ScaledDotProductAttention,
)
