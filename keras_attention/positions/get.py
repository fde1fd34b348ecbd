from typing import Any

import keras

from keras_attention.positions.alibi import ALiBi
from keras_attention.positions.base_positions import BasePositions
from keras_attention.positions.relative_bias import RelativeBias
from keras_attention.positions.rotary import Rotary
from keras_attention.validation import check_choice

SHORT: dict[str | None, type[BasePositions]] = {
    "rotary": Rotary,
    "alibi": ALiBi,
    "relative": RelativeBias,
}


def get(positions: Any, name: str = "positions") -> BasePositions | None:
    """Returns the object that a layer's argument names.

    Args:
        positions: Object of this package, its serialized form, a short
            string, or `None` for none.
        name: String, name of the argument, for the error.

    Raises:
        TypeError: For anything else.
        ValueError: For an unknown string.

    Example:

    >>> keras_attention.positions.get("alibi")
    ALiBi(max_bias=8.0)
    """
    if isinstance(positions, dict):
        positions = keras.saving.deserialize_keras_object(positions)
    if positions is None or isinstance(positions, BasePositions):
        return positions
    if isinstance(positions, str):
        return SHORT[check_choice(name, positions, (None, *SHORT))]()
    raise TypeError(
        f"`{name}` must be None, {', '.join(map(repr, SHORT))}, or an object "
        "such as `keras_attention.positions.Rotary()`. Received: "
        f"{name}={positions!r} (of type {type(positions).__name__})"
    )


def serialize(positions: BasePositions | None) -> dict[str, Any] | None:
    """Returns what `get` makes the same object of.

    Example:

    >>> serialized = keras_attention.positions.serialize(
    ...     keras_attention.positions.ALiBi(4.0))
    >>> keras_attention.positions.get(serialized)
    ALiBi(max_bias=4.0)
    """
    if positions is None:
        return None
    return keras.saving.serialize_keras_object(positions)
