"""What the layers share that pool a sequence by attention."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.precision import to_float
from keras_attention.types import Shape
from keras_attention.types import Tensor


class BaseSequencePooling(WeightedLayer):
    """Base of `AttentionPooling1D` and `PoolingByMultiheadAttention`.

    A subclass implements `build`, `pool`, `compute_output_shape` and
    `compute_scores_shape`.

    Args:
        **kwargs: Passed on to the next class.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def pool(
        self, inputs: Tensor, mask: Tensor | None, training: bool | None
    ) -> tuple[Any, Any]:
        """Return the pooled output and the attention scores.

        Args:
            inputs: Tensor of shape `(B, T, D)`, zero where it is masked.
            mask: Booleans of shape `(B, T)`, or `None`.
            training: Whether the layer is called in training.
        """
        raise NotImplementedError

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the scores."""
        raise NotImplementedError

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        mask = self._check_mask(inputs, mask)
        inputs = to_float(inputs, self.compute_dtype)
        if mask is not None:
            inputs = replace_masked(inputs, mask)
        output, scores = self.pool(inputs, mask, training)
        if not return_attention_scores:
            return output
        return output, ops.cast(scores, self.compute_dtype)

    def compute_mask(self, inputs: Tensor, previous_mask: Any = None) -> None:
        return None

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        self._check_mask(inputs, mask)
        output = self._spec(self.compute_output_shape(inputs.shape))
        if not return_attention_scores:
            return output
        return output, self._spec(self.compute_scores_shape(inputs.shape))

    def _spec(self, shape):
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _check_mask(self, inputs, mask):
        if mask is None:
            return None
        mask = to_boolean_mask("mask", mask)
        check_sequence_mask("mask", mask, inputs.shape)
        return mask
