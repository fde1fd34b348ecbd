"""Sample weights, as the parts of the loss need them."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention_maps import resize_maps


class SampleWeights:
    """The sample weights of one batch.

    Args:
        sample_weight: What `fit` was given: `None`, a tensor `(B,)` or
            `(B, 1)`, a tensor with a weight for each position, `(B, T)` or
            `(B, H, W)`, or such tensors for each output. A class weight
            arrives in this form too.
        output_names: Names of the model's outputs, in their order.
    """

    def __init__(self, sample_weight: Any, output_names: Sequence[str]):
        if keras.tree.is_nested(sample_weight):
            if not isinstance(sample_weight, dict):
                flat = keras.tree.flatten(sample_weight)
                sample_weight = dict(zip(output_names, flat, strict=False))
            self._by_output = dict(sample_weight)
        else:
            self._by_output = dict.fromkeys(output_names, sample_weight)

    def of_output(self, name: str) -> Any:
        """Returns the weights of one output, or `None`."""
        return _squeezed(self._by_output.get(name))

    def of_examples(self) -> Any:
        """Returns a weight for each example, `(B,)`, or `None`.

        Weights of several positions or outputs are averaged.
        """
        found = [_mean_of_positions(w) for w in self._distinct()]
        return sum(found) / len(found) if found else None

    def of_positions(self, shape: tuple[int | None, ...]) -> Any:
        """Returns a weight for each position of a map, or of each example.

        Args:
            shape: Sizes of the map's positions, such as `(H, W)`. Weights of
                a larger size are averaged down to it.

        Returns:
            Tensor of shape `(B, *shape)`, or `(B,)` where the weights are not
            of positions like the map's; or `None`.
        """
        found = self._distinct()
        if len(found) != 1 or len(found[0].shape) != 1 + len(shape):
            return self.of_examples()
        sizes = found[0].shape[1:]
        if tuple(sizes) == tuple(shape):
            return found[0]
        known = None not in (*sizes, *shape)
        if not known or any(map(_smaller, sizes, shape)):
            return self.of_examples()
        maps = ops.expand_dims(ops.cast(found[0], "float32"), 1)
        return ops.squeeze(resize_maps(maps, shape), 1)

    def _distinct(self):
        found = {id(w): w for w in self._by_output.values() if w is not None}
        return [_squeezed(weight) for weight in found.values()]


def _smaller(first, second):
    return first < second


def _squeezed(weight):
    """Weights without a last axis of size 1, but for the examples' own."""
    if weight is None:
        return None
    weight = ops.convert_to_tensor(weight)
    while len(weight.shape) > 1 and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, -1)
    return weight


def _mean_of_positions(weight):
    weight = ops.cast(weight, "float32")
    if len(weight.shape) == 1:
        return weight
    known = None not in weight.shape[1:]
    count = math.prod(weight.shape[1:]) if known else -1
    return ops.mean(ops.reshape(weight, (ops.shape(weight)[0], count)), axis=1)
