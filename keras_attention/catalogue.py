"""What there is: the mechanisms with their papers and what they cost."""

import functools
import inspect
import math
import re
from dataclasses import dataclass

import keras

from keras_attention.layers.registry import ATTENTION_LAYERS
from keras_attention.layers.registry import make_attention
from keras_attention.models.multiply_adds import count_multiply_adds


@dataclass(frozen=True)
class Mechanism:
    """An attention layer and its cost for one shape of features.

    Attributes:
        names: what the layer is called where a name is asked for.
        layer: its class.
        paper: authors, title, place and year, from the class's docstring.
        parameters: number of trainable parameters with the default
            arguments; `None` if the layer cannot be built for the shape.
        multiply_adds: Multiply-adds of its convolutions and dense layers, for
            one example.
    """

    names: tuple[str, ...]
    layer: type[keras.layers.Layer]
    paper: str
    parameters: int | None
    multiply_adds: int | None


def mechanisms(shape: tuple[int, ...] = (56, 56, 256)) -> list[Mechanism]:
    """List every attention layer that has a name.

    Args:
        shape: Shape of the features, without the batch: height, width,
            channels.

    Example:

    >>> from keras_attention.catalogue import mechanisms
    >>> found = mechanisms((56, 56, 256))
    >>> [m.parameters for m in found if "squeeze_excite" in m.names]
    [8464]
    """
    names: dict[type, list[str]] = {}
    for name, layer in sorted(
        ATTENTION_LAYERS.items(), key=lambda item: item[1].__name__.lower()
    ):
        names.setdefault(layer, []).append(name)
    return [
        Mechanism(tuple(known), layer, paper(layer), *_cost(layer, shape))
        for layer, known in names.items()
    ]


def paper(layer: type) -> str:
    """The first paper that the docstring of a class refers to."""
    documentation = inspect.getdoc(layer) or ""
    section = re.search(
        r"^Reference:\n(.+?)(\n\s*\n|\Z)", documentation, re.M | re.S
    )
    text = " ".join(section[1].split()) if section else ""
    until_number = re.match(r".*?arXiv:[\d.]*\d", text)
    return until_number[0] if until_number else text.split(", equation")[0]


@functools.cache
def _cost(layer_class, shape):
    layer = make_attention(layer_class, "mechanism", "channels_last")
    try:
        layer.build((None, *shape))
    except ValueError:
        return None, None
    sizes = [math.prod(weight.shape) for weight in layer.trainable_weights]
    return sum(sizes), count_multiply_adds(layer, shape)
