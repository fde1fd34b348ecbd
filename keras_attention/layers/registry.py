"""Attention layers by name, and what else may be given in a name's place.

Networks and the command line take their attention as `"cbam"`, as `CBAM`, as
`functools.partial(CBAM, ratio=8)` or as a function that returns a new layer.
All of these become layers here.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar

import keras

from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.types import DTypeLike
from keras_attention.validation import nearest

Attention = str | type | Callable[[], keras.layers.Layer]

Layer = TypeVar("Layer", bound=type[keras.layers.Layer])

# Filled by `register_attention`, where a layer is defined.
ATTENTION_LAYERS: dict[str, type[keras.layers.Layer]] = {}


def register_attention(*names: str) -> Callable[[Layer], Layer]:
    """Register a layer with Keras, and under the names that people call it.

    Args:
        *names: its full name first, then what is commonly typed. Networks,
            `insert_attention` and the command line take any of them.

    Raises:
        ValueError: if another layer has one of the names.
    """

    def register(layer: Layer) -> Layer:
        for name in names:
            if name in ATTENTION_LAYERS:
                raise ValueError(
                    "Each name must stand for one layer. Received: "
                    f"name={name!r} for {layer.__name__}, which "
                    f"{ATTENTION_LAYERS[name].__name__} has already."
                )
            ATTENTION_LAYERS[name] = layer
        register_with_keras = keras.saving.register_keras_serializable(
            package="keras_attention"
        )
        return register_with_keras(layer)

    return register


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
    dtype: DTypeLike = None,
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
    # Some layers without weights are built from the start.
    if layer._inbound_nodes or (layer.built and layer.weights):
        raise ValueError(
            "`attention` must return a new layer at each call, and returned "
            f"the layer '{layer.name}' again. Make the layer inside the "
            f"function: `lambda: {type(layer).__name__}(...)`. "
            f"Received: attention={factory!r}"
        )
    return layer
