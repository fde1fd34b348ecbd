from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.layers.vision.spatial_squeeze_excite import (
    SpatialSqueezeExcite,
)
from keras_attention.layers.vision.squeeze_excite import SqueezeExcite
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import apply_gate
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer


@register_attention("concurrent_squeeze_excite", "scse")
class ConcurrentSqueezeExcite(WeightedLayer, BaseAnyRankGate):
    """Excites channels and positions side by side (scSE).

    `SqueezeExcite` and `SpatialSqueezeExcite` both scale the input, and the
    two results become one:

        c = gate of each channel                          # [B, 1, 1, C]
        s = gate of each position                         # [B, H, W, 1]
        y = max(x * c, x * s)                             # combine="max"
        y = x * c + x * s                                 # combine="add"

    The maximum is the one of the paper's authors; ports often add. The
    layer's gate is what the input is scaled by. For the maximum that is the
    larger of c and s where x is positive, and the smaller where x is
    negative; for the sum it is c + s, with values in [0, 2].

    Args:
        ratio: positive integer; the hidden width of the channels' gate is
            `channels // ratio`. The authors use 2.
        combine: `"max"` or `"add"`.
        kernel_initializer: initializer of the kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

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
        Roy et al., Concurrent Spatial and Channel Squeeze & Excitation in
        Fully Convolutional Networks, MICCAI 2018, arXiv:1803.02579, and
        Recalibrating Fully Convolutional Networks with Spatial and Channel
        "Squeeze and Excitation" Blocks, IEEE TMI 2018, arXiv:1808.08127.

    Example:

    >>> layer = keras_attention.ConcurrentSqueezeExcite()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()  # (2 * 16 * 8 + 8 + 16) + (16 + 1)
    297
    """

    def __init__(
        self,
        ratio: int = 2,
        combine: str = "max",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.combine = check_choice("combine", combine, ("max", "add"))

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.channel_excite = SqueezeExcite(
            self.ratio,
            **self.sublayer_arguments(
                data_format=self.data_format, name="channel_excite"
            ),
        )
        self.spatial_excite = SpatialSqueezeExcite(
            **self.sublayer_arguments(
                data_format=self.data_format, name="spatial_excite"
            )
        )
        self.channel_excite.build(input_shape)
        self.spatial_excite.build(input_shape)

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        channel, spatial = self._compute_gates(inputs, mask)
        if self.combine == "add":
            return channel + spatial  # [B, H, W, C]
        # What is scaled is compared, and a negative number turns the order.
        takes_channel = (inputs >= 0) == (channel >= spatial)
        return ops.where(takes_channel, channel, spatial)

    def scale(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        # Without a gate of the image's size.
        by_channel, by_position = (
            apply_gate(inputs, gate)
            for gate in self._compute_gates(inputs, mask)
        )
        if self.combine == "add":
            return by_channel + by_position
        if keras.backend.backend() == "torch":
            # There `ops.maximum` makes float32 of float64.
            larger = by_channel >= by_position
            return ops.where(larger, by_channel, by_position)
        return ops.maximum(by_channel, by_position)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "combine": self.combine,
        }

    def _compute_gates(self, inputs, mask):
        return (
            self.channel_excite.compute_gate(inputs, mask=mask),  # [B, 1, 1, C]
            self.spatial_excite.compute_gate(inputs),  # [B, H, W, 1]
        )
