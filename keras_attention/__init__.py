"""Attention mechanisms for Keras models."""

from keras_attention.layers import BlendIn as BlendIn
from keras_attention.layers import SqueezeExcite as SqueezeExcite
from keras_attention.surgery import attention_sites as attention_sites
from keras_attention.surgery import insert_attention as insert_attention
from keras_attention.surgery import insertion_report as insertion_report
from keras_attention.surgery import remove_attention as remove_attention

__version__ = "0.1.0"
