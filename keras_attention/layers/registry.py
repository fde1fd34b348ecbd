"""Attention layers by name, and what else may be given in a name's place.

Networks and the command line take their attention as `"cbam"`, as `CBAM`, as
`functools.partial(CBAM, ratio=8)` or as a function that returns a new layer.
All of these become layers here.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_attention.layers.vision.bam import BAM
from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.layers.vision.cbam import CBAM
from keras_attention.layers.vision.channel_attention import ChannelAttention
from keras_attention.layers.vision.channel_gsop import ChannelGSoP
from keras_attention.layers.vision.concurrent_squeeze_excite import (
    ConcurrentSqueezeExcite,
)
from keras_attention.layers.vision.coordinate_attention import (
    CoordinateAttention,
)
from keras_attention.layers.vision.effective_squeeze_excite import (
    EffectiveSqueezeExcite,
)
from keras_attention.layers.vision.efficient_channel_attention import (
    EfficientChannelAttention,
)
from keras_attention.layers.vision.gated_channel_transformation import (
    GatedChannelTransformation,
)
from keras_attention.layers.vision.gather_excite import GatherExcite
from keras_attention.layers.vision.global_context import GlobalContext
from keras_attention.layers.vision.gsop import GSoP
from keras_attention.layers.vision.non_local import NonLocal
from keras_attention.layers.vision.position_gsop import PositionGSoP
from keras_attention.layers.vision.selective_kernel import SelectiveKernel
from keras_attention.layers.vision.simam import SimAM
from keras_attention.layers.vision.spatial_attention import SpatialAttention
from keras_attention.layers.vision.spatial_squeeze_excite import (
    SpatialSqueezeExcite,
)
from keras_attention.layers.vision.squeeze_excite import SqueezeExcite
from keras_attention.layers.vision.triplet_attention import TripletAttention
from keras_attention.validation import nearest

Attention = str | type | Callable[[], keras.layers.Layer]

ATTENTION_LAYERS: dict[str, type[keras.layers.Layer]] = {
    "bam": BAM,
    "cbam": CBAM,
    "channel_attention": ChannelAttention,
    "channel_gsop": ChannelGSoP,
    "concurrent_squeeze_excite": ConcurrentSqueezeExcite,
    "scse": ConcurrentSqueezeExcite,
    "coordinate_attention": CoordinateAttention,
    "coordatt": CoordinateAttention,
    "effective_squeeze_excite": EffectiveSqueezeExcite,
    "ese": EffectiveSqueezeExcite,
    "efficient_channel_attention": EfficientChannelAttention,
    "eca": EfficientChannelAttention,
    "gated_channel_transformation": GatedChannelTransformation,
    "gct": GatedChannelTransformation,
    "gather_excite": GatherExcite,
    "ge": GatherExcite,
    "gsop": GSoP,
    "position_gsop": PositionGSoP,
    "global_context": GlobalContext,
    "gc": GlobalContext,
    "non_local": NonLocal,
    "nl": NonLocal,
    "selective_kernel": SelectiveKernel,
    "sk": SelectiveKernel,
    "simam": SimAM,
    "spatial_attention": SpatialAttention,
    "spatial_squeeze_excite": SpatialSqueezeExcite,
    "sse": SpatialSqueezeExcite,
    "squeeze_excite": SqueezeExcite,
    "se": SqueezeExcite,
    "triplet_attention": TripletAttention,
    "triplet": TripletAttention,
}


def find_attention(
    attention: Attention,
) -> Callable[..., keras.layers.Layer]:
    """Return the class or factory that `attention` stands for.

    Args:
        attention: a name of `ATTENTION_LAYERS`, a subclass of
            `keras.layers.Layer`, or a function without arguments that returns
            a new layer at each call.

    Raises:
        ValueError: for an unknown name; the nearest ones are offered.
        TypeError: for anything else, an instance of a layer included.
    """
    if isinstance(attention, str):
        if attention not in ATTENTION_LAYERS:
            raise ValueError(
                "Unknown attention name. Expected one of "
                f"{', '.join(sorted(ATTENTION_LAYERS))}. Received: "
                f"attention={attention!r}."
                f"{nearest(attention, ATTENTION_LAYERS)}"
            )
        return ATTENTION_LAYERS[attention]
    if isinstance(attention, keras.layers.Layer):
        raise TypeError(
            "`attention` must make a new layer for each place, and one layer "
            "would share its weights between them. Give its class, or "
            f"`lambda: {type(attention).__name__}(...)`. "
            f"Received: attention={attention!r}"
        )
    if isinstance(attention, type) and not issubclass(
        attention, keras.layers.Layer
    ):
        raise TypeError(
            "`attention` must be a subclass of keras.layers.Layer. "
            f"Received: attention={attention!r}"
        )
    if not callable(attention):
        raise TypeError(
            "`attention` must be a name, a layer class, or a function that "
            f"returns a new layer. Received: attention={attention!r} (of type "
            f"{type(attention).__name__})"
        )
    return attention


def attention_class(attention: Attention) -> type:
    """Return the class of the layers that `attention` makes.

    A function is called once to learn it.
    """
    attention = find_attention(attention)
    made = _class_of(attention)
    return type(_call_factory(attention)) if made is None else made


def make_attention(
    attention: Attention,
    name: str,
    data_format: str | None = None,
    dtype: Any = None,
) -> keras.layers.Layer:
    """Return a new, unbuilt attention layer.

    Args:
        attention: see `find_attention`. A class, or a `functools.partial` of
            one, is given `name`, `dtype` and, if it takes it, `data_format`,
            unless the partial sets them. A function makes the layer as it
            will; the layer is then renamed.
        name: name of the layer.
        data_format: data format of the images that it will see.
        dtype: dtype or dtype policy of the layer.

    Raises:
        TypeError: if a function returns something other than a layer.
        ValueError: if a function returns a layer that is in use.
    """
    attention = find_attention(attention)
    made = _class_of(attention)
    if made is None:
        layer = _call_factory(attention)
        layer.name = name
        return layer
    arguments = {"name": name, "dtype": dtype}
    if issubclass(made, BaseImageLayer) or _takes(made, "data_format"):
        arguments["data_format"] = data_format
    if isinstance(attention, functools.partial):
        arguments |= attention.keywords
    return attention(**{**arguments, "name": name})


def _class_of(attention):
    """The layer class behind a class or a partial; `None` for a function."""
    while isinstance(attention, functools.partial):
        attention = attention.func
    return attention if isinstance(attention, type) else None


def _takes(layer_class, argument):
    return argument in inspect.signature(layer_class).parameters


def _call_factory(factory):
    layer = factory()
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "`attention` must return a keras.layers.Layer when it is called. "
            f"Received: attention={factory!r}, which returned {layer!r}"
        )
    if layer.built or layer._inbound_nodes:
        raise ValueError(
            "`attention` must return a new layer at each call, and returned "
            f"the layer '{layer.name}' again. Make the layer inside the "
            f"function: `lambda: {type(layer).__name__}(...)`. "
            f"Received: attention={factory!r}"
        )
    return layer
