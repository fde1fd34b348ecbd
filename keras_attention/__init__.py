"""Attention mechanisms for Keras models."""

from keras_attention.layers import BAM as BAM
from keras_attention.layers import CBAM as CBAM
from keras_attention.layers import ChannelAttention as ChannelAttention
from keras_attention.layers import (
    ConcurrentSqueezeExcite as ConcurrentSqueezeExcite,
)
from keras_attention.layers import CoordinateAttention as CoordinateAttention
from keras_attention.layers import (
    EffectiveSqueezeExcite as EffectiveSqueezeExcite,
)
from keras_attention.layers import (
    EfficientChannelAttention as EfficientChannelAttention,
)
from keras_attention.layers import GlobalContext as GlobalContext
from keras_attention.layers import NonLocal as NonLocal
from keras_attention.layers import SelectiveKernel as SelectiveKernel
from keras_attention.layers import SimAM as SimAM
from keras_attention.layers import SpatialAttention as SpatialAttention
from keras_attention.layers import SpatialSqueezeExcite as SpatialSqueezeExcite
from keras_attention.layers import SqueezeExcite as SqueezeExcite
from keras_attention.layers import TripletAttention as TripletAttention

__version__ = "0.1.0"
