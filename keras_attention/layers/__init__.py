"""Every public layer, by the kind of tensor that it takes."""

from keras_attention.layers.blend_in import BlendIn as BlendIn
from keras_attention.layers.vision import SqueezeExcite as SqueezeExcite
