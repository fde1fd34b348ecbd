"""What the gates share that take sequences and volumes as well as images."""

from typing import Any
from typing import ClassVar

from keras_attention.inspection.record_outputs import gate_is_recorded
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.base_image_layer import ANY_RANK
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.masking import zero_masked
from keras_attention.types import Tensor


class BaseAnyRankGate(BaseGate):
    """Base of the gates of sequences, images and volumes.

    A subclass implements `make_gate` for any rank. A sequence may have a
    mask: what is masked is zero before the subclass sees it, so that only
    means and maxima over positions need the mask.
    """

    ranks: ClassVar[tuple[int, ...]] = ANY_RANK

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        """Return what `inputs` is scaled by; `mask` is that of a sequence."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `make_gate`."
        )

    def scale(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        gate = self.compute_gate(inputs, training=training, mask=mask)
        return apply_gate(inputs, gate)

    def compute_gate(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compute what `inputs` is scaled by, broadcastable to it.

        The values are in [0, 1] unless the layer's text says otherwise. A
        layer that is not built yet is built first.

        Args:
            inputs: image tensor, sequence or volume.
            training: whether batch normalizations use the batch. Defaults to
                `None`, which is the mode of the call that is going on.
            mask: boolean tensor `(batch, time)` of a sequence; where it is
                `False`, the input has no effect. Defaults to `None`.
        """
        inputs = self.as_called(inputs)
        if not self.built:
            self.build(inputs.shape)
        inputs, mask = self._without_padding(inputs, mask)
        return self.make_gate(inputs, training, mask)

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        inputs, mask = self._without_padding(inputs, mask)
        if gate_is_recorded(self):
            return BaseAnyRankGate.scale(self, inputs, training, mask)
        return self.scale(inputs, training, mask)

    def _without_padding(self, inputs, mask):
        inputs = self.to_float(inputs)
        mask = self.sequence_mask(inputs, mask)
        return zero_masked(inputs, mask, self.data_format), mask
