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
    """Returns the predictions and the attention of chosen layers.

    The model runs once. An output is called as its name here, with `_map`,
    `_gate` or `_scores` at its end, and `/` turned into `_`; two names that
    would give the same output name are refused.

    Args:
        names: Names of intermediate outputs; see `record_outputs`. A layer's
            name gives its activation attention map, the sum over channels of
            the squared activation; `"name:gate"` gives a gate and
            `"name:scores"` attention scores.

    Raises:
        TypeError: If `names` is not a list of names.
        ValueError: If it is empty.
    """

    def __init__(self, names: Iterable[str]):
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(
                f"`names` must be a list of names. Received: names={names!r}"
            )
        self.names = list(names)
        if not self.names:
            raise ValueError("`names` must name a layer. Received: names=[]")

    def function(self, model: keras.Model) -> Any:
        for name in self.names:
            find_layer(model, split_name(name)[0])
        outputs_of = self._output_names(model)

        def attend(*tensors):
            outputs, values = read_outputs(
                model, pack_inputs(model, tensors), self.names
            )
            named = name_outputs(model, outputs)
            for name, value in values.items():
                path, kind = split_name(name)
                if kind == "output":
                    value = _map(model, path, value)
                if kind == "filters" and len(value.shape) == 2:
                    value = _for_each(value, tensors[0])
                named[outputs_of[name]] = value
            return named

        return attend

    def _output_names(self, model):
        """The output name of each of `names`; no two may be the same."""
        found = {}
        taken = dict.fromkeys(output_names(model), "an output of the model")
        for name in self.names:
            path, kind = split_name(name)
            kind = "map" if kind == "output" else kind
            output = f"{path.replace('/', '_')}_{kind}"
            if name not in found and output in taken:
                raise ValueError(
                    "Each value of an AttentionSignature must have a name of "
                    f"its own. Received: '{name}' and {taken[output]}, which "
                    f"are both called '{output}'. Rename one of the layers, or "
                    "export two signatures."
                )
            if not NAMES["output"].fullmatch(output):
                raise ValueError(
                    "The name of an output of an export must be of ASCII "
                    "letters, digits and '_', and begin with a letter. "
                    f"Received: '{output}' of the layer '{path}'. Rename it."
                )
            found[name] = output
            taken[output] = f"'{name}'"
        return found


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
