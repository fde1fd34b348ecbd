"""What every gate shares."""

from typing import Any

from keras_attention.inspection.record_outputs import gate_is_recorded
from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.ops.image.gating import apply_gate
from keras_attention.types import Tensor


class BaseGate(BaseImageLayer):
    """Base of the layers that scale an image by a gate they compute from it.

    A subclass implements `make_gate`, and `build_weights` where it has
    weights. It overrides `scale` where there is a shorter path to the output
    than through the gate. The rest of a layer's contract is here.
    """

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        """Return what `inputs` is scaled by, broadcastable to it."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `make_gate`."
        )

    def scale(self, inputs: Tensor, training: bool | None) -> Tensor:
        """Return the scaled image."""
        return apply_gate(inputs, self.compute_gate(inputs, training=training))

    def compute_gate(
        self, inputs: Tensor, training: bool | None = None
    ) -> Tensor:
        """Compute what `inputs` is scaled by, broadcastable to it.

        The values are in [0, 1] unless the layer's text says otherwise. A
        layer that is not built yet is built first.

        Args:
            inputs: image tensor.
            training: whether batch normalizations use the batch. Defaults to
                `None`, which is the mode of the call that is going on.
        """
        inputs = self.as_called(inputs)
        if not self.built:
            self.build(inputs.shape)
        return self.make_gate(inputs, training)

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        inputs = self.to_float(inputs)
        if gate_is_recorded(self):
            return BaseGate.scale(self, inputs, training)
        return self.scale(inputs, training)
