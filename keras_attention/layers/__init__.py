"""Every public layer, by the kind of tensor that it takes."""

from keras_attention.layers.blend_in import BlendIn as BlendIn
from keras_attention.layers.sequence import DynamicConv1D as DynamicConv1D
from keras_attention.layers.sequence import (
    GatedConvolutionBlock as GatedConvolutionBlock,
)
from keras_attention.layers.sequence import (
    LightweightConv1D as LightweightConv1D,
)
from keras_attention.layers.sequence import (
    MultiHeadAttention as MultiHeadAttention,
)
from keras_attention.layers.sequence import (
    ScaledDotProductAttention as ScaledDotProductAttention,
)
from keras_attention.layers.vision import BAM as BAM
from keras_attention.layers.vision import CBAM as CBAM
from keras_attention.layers.vision import ChannelAttention as ChannelAttention
from keras_attention.layers.vision import ChannelGSoP as ChannelGSoP
from keras_attention.layers.vision import (
    ConcurrentSqueezeExcite as ConcurrentSqueezeExcite,
)
from keras_attention.layers.vision import (
    CoordinateAttention as CoordinateAttention,
)
from keras_attention.layers.vision import CovariancePooling as CovariancePooling
from keras_attention.layers.vision import (
    EffectiveSqueezeExcite as EffectiveSqueezeExcite,
)
from keras_attention.layers.vision import (
    EfficientChannelAttention as EfficientChannelAttention,
)
from keras_attention.layers.vision import (
    GatedChannelTransformation as GatedChannelTransformation,
)
from keras_attention.layers.vision import GatherExcite as GatherExcite
from keras_attention.layers.vision import GlobalContext as GlobalContext
from keras_attention.layers.vision import GSoP as GSoP
from keras_attention.layers.vision import NonLocal as NonLocal
from keras_attention.layers.vision import PositionGSoP as PositionGSoP
from keras_attention.layers.vision import SelectiveKernel as SelectiveKernel
from keras_attention.layers.vision import SimAM as SimAM
from keras_attention.layers.vision import SpatialAttention as SpatialAttention
from keras_attention.layers.vision import (
    SpatialSqueezeExcite as SpatialSqueezeExcite,
)
from keras_attention.layers.vision import SqueezeExcite as SqueezeExcite
from keras_attention.layers.vision import TripletAttention as TripletAttention
