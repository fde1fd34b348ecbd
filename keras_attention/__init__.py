"""Attention mechanisms for Keras models."""

from keras_attention.distillation import (
    AttentionTransferModel as AttentionTransferModel,
)
from keras_attention.layers import SqueezeExcite as SqueezeExcite

__version__ = "0.1.0"
