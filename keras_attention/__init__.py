"""Attention mechanisms for Keras models."""

from keras_attention.layers import BAM as BAM
from keras_attention.layers import CBAM as CBAM
from keras_attention.layers import ChannelAttention as ChannelAttention
from keras_attention.layers import ChannelGSoP as ChannelGSoP
from keras_attention.layers import (
    ConcurrentSqueezeExcite as ConcurrentSqueezeExcite,
)
from keras_attention.layers import CovariancePooling as CovariancePooling
from keras_attention.layers import (
    EffectiveSqueezeExcite as EffectiveSqueezeExcite,
)
from keras_attention.layers import (
    EfficientChannelAttention as EfficientChannelAttention,
)
from keras_attention.layers import GatherExcite as GatherExcite
from keras_attention.layers import GSoP as GSoP
from keras_attention.layers import PositionGSoP as PositionGSoP
from keras_attention.layers import SpatialAttention as SpatialAttention
from keras_attention.layers import SpatialSqueezeExcite as SpatialSqueezeExcite
from keras_attention.layers import SqueezeExcite as SqueezeExcite

__version__ = "0.1.0"
