"""A signature that returns what a model attends to as well."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_attention.inspection import find_layer
from keras_attention.inspection import read_outputs
from keras_attention.inspection import split_name
from keras_attention.serving.signatures import NAMES
from keras_attention.serving.signatures import PredictionSignature
from keras_attention.serving.signatures import name_outputs
from keras_attention.serving.signatures import output_names
from keras_attention.serving.signatures import pack_inputs


class AttentionSignature(PredictionSignature):
    """The predictions, and beside them what chosen layers attend to.

    The model runs once. An output is named after its tap, with `_map`,
    `_gate` or `_scores` at its end, and `/` turned into `_`; taps whose names
    would be one are refused.

    Args:
        taps: names of layers; see `keras_attention.inspection`. A layer's name
            gives its activation attention map, the sum over channels of the
            squared activation; `"name:gate"` gives a gate and
            `"name:scores"` attention scores.

    Raises:
        TypeError: if `taps` is not a list of names.
        ValueError: if it is empty.
    """

    def __init__(self, taps: Iterable[str]):
        if isinstance(taps, str) or not isinstance(taps, Iterable):
            raise TypeError(
                f"`taps` must be a list of names. Received: taps={taps!r}"
            )
        self.taps = list(taps)
        if not self.taps:
            raise ValueError("`taps` must name a layer. Received: taps=[]")

    def function(self, model: keras.Model) -> Any:
        for tap in self.taps:
            find_layer(model, split_name(tap)[0])
        names = self._names(model)

        def attend(*tensors):
            outputs, values = read_outputs(
                model, pack_inputs(model, tensors), self.taps
            )
            named = name_outputs(model, outputs)
            for tap, value in values.items():
                path, kind = split_name(tap)
                if kind == "output":
                    value = _map(model, path, value)
                if kind == "filters" and len(value.shape) == 2:
                    value = _for_each(value, tensors[0])
                named[names[tap]] = value
            return named

        return attend

    def _names(self, model):
        """The name of each tap's output; each of them must be another."""
        names = {}
        taken = dict.fromkeys(output_names(model), "an output of the model")
        for tap in self.taps:
            path, kind = split_name(tap)
            kind = "map" if kind == "output" else kind
            name = f"{path.replace('/', '_')}_{kind}"
            if tap not in names and name in taken:
                raise ValueError(
                    "Each value of an AttentionSignature must have a name of "
                    f"its own. Received: '{tap}' and {taken[name]}, which "
                    f"are both called '{name}'. Rename one of the layers, or "
                    "export two signatures."
                )
            if not NAMES["output"].fullmatch(name):
                raise ValueError(
                    "The name of an output of an export must be of ASCII "
                    "letters, digits and '_', and begin with a letter. "
                    f"Received: '{name}' of the layer '{path}'. Rename it."
                )
            names[tap] = name
            taken[name] = f"'{tap}'"
        return names


def _for_each(value, batch):
    """Repeat what all examples share: a server's outputs have a batch axis."""
    count = keras.ops.shape(batch)[0]
    return keras.ops.broadcast_to(value[None], (count, *value.shape))


def _map(model, path, activation):
    from keras_attention.ops.attention_maps import sum_map

    if len(activation.shape) < 3:
        raise ValueError(
            "The attention map of a layer is that of an activation with "
            f"positions. Received: layer '{path}' with an output of shape "
            f"{tuple(activation.shape)}"
        )
    data_format = getattr(find_layer(model, path), "data_format", None)
    return sum_map(
        activation, channel_axis=1 if data_format == "channels_first" else -1
    )
