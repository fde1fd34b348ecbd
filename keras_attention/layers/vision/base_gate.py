"""What every gate of the vision room shares."""

from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.ops.image.gating import apply_gate


class BaseGate(BaseImageLayer):
    """Base of the layers that scale an image by a gate they compute from it.

    A subclass implements `compute_gate`, and `build_weights` where it has
    weights. The rest of a layer's contract is here.
    """

    def compute_gate(self, inputs, training=None):
        """Return what `inputs` is scaled by, broadcastable to it.

        The values are in [0, 1] unless the layer's text says otherwise.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `compute_gate`."
        )

    def call(self, inputs, training=None):
        return apply_gate(inputs, self.compute_gate(inputs, training=training))
