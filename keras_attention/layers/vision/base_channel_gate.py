"""What the gates that only see the mean of each channel share."""

from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import means_and_image
from keras_attention.ops.image.masking import masked_means
from keras_attention.types import Tensor


class BaseChannelGate(BaseAnyRankGate):
    """Base of the gates that are a function of each channel's mean.

    A subclass implements `compute_channel_gate`, from the means `[B, C]` to
    the gate `[B, C]`.
    """

    def compute_channel_gate(self, means: Tensor) -> Tensor:
        """Return the gate, `(B, C)`, of the means, `(B, C)`."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `compute_channel_gate`."
        )

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        means = global_average_pool(inputs, self.data_format)
        return self._expand(means, mask, len(inputs.shape))

    def scale(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        # Both uses of the image, in one pass of the gradient.
        means, inputs = means_and_image(inputs, self.data_format)
        gate = self._expand(means, mask, len(inputs.shape))
        return apply_gate(inputs, gate)

    def _expand(self, means, mask, rank):
        gate = self.compute_channel_gate(masked_means(means, mask))  # [B, C]
        return expand_channel_gate(gate, self.data_format, rank)
