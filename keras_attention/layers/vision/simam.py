from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.ops.image.simam import simam
from keras_attention.types import Tensor
from keras_attention.validation import check_number


@register_attention("simam")
class SimAM(BaseAnyRankGate):
    """SimAM: a gate for each single value, without any weight.

    A value matters if it stands out in its channel. With d its distance to
    the channel's mean over the M positions of the image:

        e = d² / (4 (Σ d² / (M - 1) + regularization)) + 1/2
        y = x * sigmoid(e)                                # [B, H, W, C]

    e is the inverse of the least energy that a linear separation of the
    value from all others can have. The gate is at least sigmoid(1/2), which
    is 0.62. An image of a single position has no variance, M - 1 being zero:
    its gate is sigmoid(1/2), the limit of a constant channel.

    Args:
        regularization: positive number; λ in the paper.
        **kwargs: `data_format` (`"channels_last"`, `"channels_first"`, or
            `None` for `keras.config.image_data_format()`); and the arguments
            of `keras.layers.Layer`.

    Call arguments:
        inputs: image, sequence or volume.
        mask: boolean tensor `(batch, time)` of a sequence: where it is
            `False`, the input has no effect on other positions, and the
            output is zero. Masks of images and volumes are passed on unused.

    Input shape:
        An image `(batch, height, width, channels)`, a sequence
        `(batch, time, channels)` or a volume
        `(batch, depth, height, width, channels)`; with the channels second
        for `channels_first`. All but the channels may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Yang et al., SimAM: A Simple, Parameter-Free Attention Module for
        Convolutional Neural Networks, ICML 2021, equations 5 and 6.

    Example:

    >>> layer = keras_attention.SimAM()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()
    0
    """

    def __init__(self, regularization: float = 1e-4, **kwargs: Any):
        super().__init__(**kwargs)
        self.regularization = check_number(
            "regularization", regularization, 0, exclusive_minimum=True
        )

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        gate = simam(inputs, self.regularization, self.data_format, mask)
        return ops.cast(gate, inputs.dtype)  # [B, H, W, C]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "regularization": self.regularization,
        }
