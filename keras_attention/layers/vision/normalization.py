"""Normalizations inside this package's layers, right for large means.

On torch, Keras computes a variance as the mean of the squares minus the square
of the mean, which are nearly the same number where the mean is large next to
the deviation. Here the mean is taken away first.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


class CenteredBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization whose variance is that of the deviations."""

    def _moments(self, inputs: Tensor, mask: Any) -> tuple[Any, Any]:
        # With a mask Keras averages the deviations' squares too.
        if keras.backend.backend() != "torch" or mask is not None:
            return super()._moments(inputs, mask)
        axes = tuple(self._reduction_axes)
        mean = ops.mean(inputs, axes, keepdims=True)
        variance = ops.mean(ops.square(inputs - mean), axes)
        return ops.squeeze(mean, axes), variance


class CenteredGroupNormalization(keras.layers.GroupNormalization):
    """Group normalization of the last axis that is given deviations."""

    def _apply_normalization(
        self, reshaped_inputs: Tensor, input_shape: Any
    ) -> Any:
        x = reshaped_inputs
        if keras.backend.backend() == "torch":
            x = widen(x)
            groups = len(x.shape) - 2
            axes = [n for n in range(1, len(x.shape)) if n != groups]
            x = x - ops.mean(x, axes, keepdims=True)
        return super()._apply_normalization(x, input_shape)
