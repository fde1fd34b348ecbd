"""Every public layer, by the kind of tensor that it takes."""

from typing import TYPE_CHECKING

from keras_attention.layers.blend_in import BlendIn as BlendIn
from keras_attention.layers.sequence import *
from keras_attention.layers.vision import *

if not TYPE_CHECKING:
    # The classes, and not the modules that they are in.
    __all__ = [
        name for name, value in vars().items() if isinstance(value, type)
    ]
