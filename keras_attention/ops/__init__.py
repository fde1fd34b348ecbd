"""The mathematics: pure functions on tensors, without weights or state."""

# Sequences.
from keras_attention.ops.attention.positions import (
    rotary_embedding as rotary_embedding,
)
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention as scaled_dot_product_attention,
)
from keras_attention.ops.sequence.head_convolution import (
    dynamic_convolution as dynamic_convolution,
)
from keras_attention.ops.sequence.head_convolution import (
    lightweight_convolution as lightweight_convolution,
)
