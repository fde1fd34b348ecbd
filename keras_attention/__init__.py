"""Attention mechanisms for Keras models."""

from keras_attention.layers import DynamicConv1D as DynamicConv1D
from keras_attention.layers import (
    GatedConvolutionBlock as GatedConvolutionBlock,
)
from keras_attention.layers import LightweightConv1D as LightweightConv1D
from keras_attention.layers import SqueezeExcite as SqueezeExcite

__version__ = "0.1.0"
