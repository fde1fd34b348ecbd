"""What the image layers share that attend by a softmax."""

from typing import Any

import keras

from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import Tensor


class BaseImageAttention(WeightedLayer, BaseScoredLayer):
    """Base of the image layers with kernels, biases and attention scores.

    A subclass implements `attend_image` and `compute_scores_shape`, and
    `build_weights` and `compute_output_shape` where it needs its own. Scores
    that are not asked for need not be computed.
    """

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        """Return the output, and the scores if they are asked for.

        Args:
            x: image of shape `(B, H, W, C)`, whatever the data format.
            training: whether batch normalizations use the batch.
            return_scores: whether the scores are asked for; `None` may take
                their place if they are not.

        Returns:
            The output, channels last if it is an image, and the scores.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `attend_image`."
        )

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Any, Any]:
        return self._attend(inputs, training, return_scores=True)

    def attend_without_scores(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> Any:
        return self._attend(inputs, training, return_scores=False)[0]

    def _attend(self, inputs, training, return_scores):
        x = to_channels_last(inputs, self.data_format)
        y, scores = self.attend_image(x, training, return_scores)
        if len(y.shape) == 4:
            y = from_channels_last(y, self.data_format)
        return y, scores

    def _dense(self, units, width, name, **arguments):
        """Make a dense layer over `width` channels, and its weights."""
        dense = keras.layers.Dense(
            units, **self.sublayer_arguments(name=name, **arguments)
        )
        dense.build((None, None, width))
        return dense


def number_of_heads(
    layer: keras.layers.Layer, num_heads: int | None, channels: int, width: int
) -> int:
    """Return the number of heads of a layer.

    Args:
        layer: the layer, for the error.
        num_heads: what the user has set, or `None`.
        channels: what is divided among the heads.
        width: width of a head in the paper. Without `num_heads`, there are
            as many heads as divide the channels without being narrower, and
            at least one.

    Raises:
        ValueError: if `num_heads` does not divide the channels.
    """
    if num_heads is None:
        most = max(1, channels // width)
        return next(n for n in range(most, 0, -1) if channels % n == 0)
    if channels % num_heads:
        raise ValueError(
            f"{type(layer).__name__}'s `num_heads` must divide the channels. "
            f"Received: num_heads={num_heads} for {channels} channels in "
            f"layer '{layer.name}'."
        )
    return num_heads
