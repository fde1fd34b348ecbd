"""How attention knows the order of its tokens: objects that layers take.

    positions = Rotary(layout="half", scaling=YaRNScaling(4, 8192))
    MultiHeadAttention(8, positions=positions)

Each is immutable and saved with the layer. A layer takes the short strings
`"rotary"`, `"alibi"` and `"relative"` for those with their defaults.
"""

from keras_attention.positions.alibi import ALiBi as ALiBi
from keras_attention.positions.base_positions import (
    BasePositions as BasePositions,
)
from keras_attention.positions.get import get as get
from keras_attention.positions.get import serialize as serialize
from keras_attention.positions.relative_bias import RelativeBias as RelativeBias
from keras_attention.positions.rotary import Rotary as Rotary
from keras_attention.positions.rotary_scaling import (
    LinearScaling as LinearScaling,
)
from keras_attention.positions.rotary_scaling import (
    Llama3Scaling as Llama3Scaling,
)
from keras_attention.positions.rotary_scaling import NTKScaling as NTKScaling
from keras_attention.positions.rotary_scaling import YaRNScaling as YaRNScaling
