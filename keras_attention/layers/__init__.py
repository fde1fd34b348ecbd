"""Every public layer, by the kind of tensor that it takes."""

from keras_attention.layers.sequence import DynamicConv1D as DynamicConv1D
from keras_attention.layers.sequence import (
    GatedConvolutionBlock as GatedConvolutionBlock,
)
from keras_attention.layers.sequence import (
    LightweightConv1D as LightweightConv1D,
)
from keras_attention.layers.vision import SqueezeExcite as SqueezeExcite
