"""Which attention layer a network puts where."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.layers.registry import Attention
from keras_attention.layers.registry import attention_class
from keras_attention.layers.registry import find_attention
from keras_attention.layers.registry import make_attention
from keras_attention.validation import check_choice

Placed = Attention | Sequence[Attention | None] | None


class Placement:
    """The attention of a network: one choice for each stage, and the place.

    Args:
        attention: `None` for no attention; a name, a layer class or a
            function that returns a new layer (see
            `keras_attention.layers.registry`); or a list with one of these,
            or `None`, for each stage.
        at: one of `places`, or `None` for the usual place of the layer.
            `"stage"` is between two stages: after the last one there is
            attention only if a list asks for it.
        stages: number of stages of the network.
        places: the places that the network knows; the first is the usual one
            of a layer that is not in `USUAL_PLACES`.
    """

    def __init__(
        self,
        attention: Placed,
        at: str | None,
        stages: int,
        places: Sequence[str] = ("block", "last_block", "stage"),
    ):
        listed = isinstance(attention, list | tuple)
        choices: Any = attention if listed else [attention] * stages
        if len(choices) != stages:
            raise ValueError(
                "A list given as `attention` must have one entry for each of "
                f"the network's {stages} stages; None leaves a stage without. "
                f"Received: attention of {len(choices)} entries"
            )
        if at is not None:
            check_choice("attention_at", at, places)
        self.attention = [
            None if chosen is None else find_attention(chosen)
            for chosen in choices
        ]
        chosen = [one for one in self.attention if one is not None]
        if not chosen and at is not None:
            raise ValueError(
                "`attention_at` says where `attention` goes, and there is "
                f"none. Received: attention_at={at!r} without attention"
            )
        self.at = at
        if chosen and at is None:
            usual = USUAL_PLACES.get(attention_class(chosen[0]).__name__)
            self.at = usual if usual in places else places[0]
        if self.at == "stage" and not listed:
            self.attention[-1] = None

    def make(
        self, stage: int, places: Sequence[str], name: str, **arguments: Any
    ) -> keras.layers.Layer | None:
        """Return a new layer if one belongs here in the stage, or `None`.

        Args:
            stage: number of the stage, from 1.
            places: what this point of the network is, among the network's
                places: the end of a last block is `("block", "last_block")`.
            name: name of the layer.
            **arguments: `data_format` and `dtype`.
        """
        attention = self.attention[stage - 1]
        if attention is None or self.at not in places:
            return None
        return make_attention(attention, name, **arguments)


USUAL_PLACES = {
    "BAM": "stage",
    "ChannelGSoP": "last_block",
    "PositionGSoP": "last_block",
    "GSoP": "last_block",
}
