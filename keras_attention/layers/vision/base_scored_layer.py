"""What the image layers share that attend, and do not gate."""

from typing import Any

import keras

from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.ops.image.masking import zero_masked
from keras_attention.types import Tensor


class BaseScoredLayer(BaseImageLayer):
    """Base of the image layers that return their scores when asked for them.

    A subclass implements `attend` and `compute_scores_shape`, and
    `build_weights` and `compute_output_shape` where it needs its own.
    `return_attention_scores` is the call argument by which the layers of
    sequences are asked too, so that `"name:scores"` works for all.

    The masked positions of a sequence are zero before `attend` sees them.
    """

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Any, Any]:
        """Return the layer's output, and the scores that it came by.

        Args:
            inputs: image, or a sequence or volume if `ranks` has them.
            training: whether batch normalizations use the batch.
            mask: of a sequence, `(batch, time)`; `None` for all positions.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `attend`."
        )

    def attend_without_scores(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> Any:
        """Return the layer's output alone.

        A subclass overrides it where that takes less than `attend`.
        """
        return self.attend(inputs, training, mask)[0]

    def compute_scores_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the scores."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `compute_scores_shape`."
        )

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        mask: Tensor | None = None,
    ) -> Any:
        inputs = self.to_float(inputs)
        mask = self.sequence_mask(inputs, mask)
        inputs = zero_masked(inputs, mask, self.data_format)
        if not return_attention_scores:
            return self.attend_without_scores(inputs, training, mask)
        outputs, scores = self.attend(inputs, training, mask)
        return outputs, keras.ops.cast(scores, self.compute_dtype)

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_attention_scores: bool = False,
        mask: Tensor | None = None,
    ) -> Any:
        outputs = self._spec(self.compute_output_shape(inputs.shape))
        if not return_attention_scores:
            return outputs
        return outputs, self._spec(self.compute_scores_shape(inputs.shape))

    def _spec(self, shape):
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _convolved_shape(self, input_shape, filters, strides=1):
        """Shape after a convolution with padding "same".

        Without `filters`, the channels stay.
        """
        sizes = [
            None if size is None else -(-size // strides)
            for size in self._spatial_shape(input_shape)
        ]
        channels = filters or input_shape[self.channel_axis]
        sizes.insert(len(sizes) if self.channel_axis == -1 else 0, channels)
        return (input_shape[0], *sizes)

    def _spatial_shape(self, input_shape):
        """Height and width, `None` where they are not known."""
        sizes = list(input_shape)
        del sizes[self.channel_axis]
        return tuple(sizes[1:])
