"""Layers that take a sequence."""

from typing import TYPE_CHECKING

from keras_attention.layers.sequence.additive_attention import (
    AdditiveAttention as AdditiveAttention,
)
from keras_attention.layers.sequence.attention_pooling_1d import (
    AttentionPooling1D as AttentionPooling1D,
)
from keras_attention.layers.sequence.differential_attention import (
    DifferentialAttention as DifferentialAttention,
)
from keras_attention.layers.sequence.dynamic_conv_1d import (
    DynamicConv1D as DynamicConv1D,
)
from keras_attention.layers.sequence.gated_convolution_block import (
    GatedConvolutionBlock as GatedConvolutionBlock,
)
from keras_attention.layers.sequence.gated_delta_net import (
    GatedDeltaNet as GatedDeltaNet,
)
from keras_attention.layers.sequence.gated_linear_attention import (
    GatedLinearAttention as GatedLinearAttention,
)
from keras_attention.layers.sequence.lightweight_conv_1d import (
    LightweightConv1D as LightweightConv1D,
)
from keras_attention.layers.sequence.linear_attention import (
    LinearAttention as LinearAttention,
)
from keras_attention.layers.sequence.luong_attention import (
    LuongAttention as LuongAttention,
)
from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention as MultiHeadAttention,
)
from keras_attention.layers.sequence.multi_head_latent_attention import (
    MultiHeadLatentAttention as MultiHeadLatentAttention,
)
from keras_attention.layers.sequence.pooling_by_multihead_attention import (
    PoolingByMultiheadAttention as PoolingByMultiheadAttention,
)
from keras_attention.layers.sequence.retention import Retention as Retention
from keras_attention.layers.sequence.scaled_dot_product_attention import (
    ScaledDotProductAttention as ScaledDotProductAttention,
)

if not TYPE_CHECKING:
    # The classes, and not the modules that they are in.
    __all__ = [
        name for name, value in vars().items() if isinstance(value, type)
    ]
