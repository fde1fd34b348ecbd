from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_any_rank_gate import BaseAnyRankGate
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.channel_norms import NORMS
from keras_attention.ops.image.channel_norms import channel_norms
from keras_attention.ops.image.channel_norms import normalize_channels
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_number


@register_attention("gated_channel_transformation", "gct")
class GatedChannelTransformation(BaseAnyRankGate):
    """GCT: channels compete or cooperate by their sizes, three weights each.

    The size of a channel is its norm over all positions, weighed by α. Sizes
    are divided by their root mean square over the channels, and γ and β make
    a gate of each:

        s_c = α_c √(sum over positions of x² + epsilon)           # [B, C]
        n_c = s_c / √(mean over channels of s² + epsilon)         # [B, C]
        y = x * (1 + tanh(γ_c n_c + β_c))                         # [B, H, W, C]

    A negative γ holds a channel down that is larger than others, a positive
    one lets it grow. The gate is between 0 and 2. γ and β start at zero, so
    the layer starts as the identity. The authors put it before convolutions
    and let no weight decay act on β.

    Args:
        norm: `"l2"`, or `"l1"`, which takes sums and means of absolute values
            in place of both roots.
        epsilon: positive number.
        alpha_initializer: initializer of α.
        gamma_initializer: initializer of γ.
        beta_initializer: initializer of β.
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
        Yang et al., Gated Channel Transformation for Visual Recognition,
        CVPR 2020, arXiv:1909.11519, section 3.

    Example:

    >>> layer = keras_attention.GatedChannelTransformation()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> bool(np.all(layer(x) == x))
    True
    >>> layer.count_params()  # 3 * 16
    48
    """

    def __init__(
        self,
        norm: str = "l2",
        epsilon: float = 1e-5,
        alpha_initializer: InitializerLike = "ones",
        gamma_initializer: InitializerLike = "zeros",
        beta_initializer: InitializerLike = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.norm = check_choice("norm", norm, NORMS)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        self.alpha_initializer = keras.initializers.get(alpha_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_initializer = keras.initializers.get(beta_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self.alpha, self.gamma, self.beta = (
            self.add_weight(
                shape=(channels,),
                initializer=clone_initializer(initializer),
                name=name,
            )
            for name, initializer in (
                ("alpha", self.alpha_initializer),
                ("gamma", self.gamma_initializer),
                ("beta", self.beta_initializer),
            )
        )

    def make_gate(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None = None
    ) -> Tensor:
        alpha, gamma, beta = (
            widen(ops.convert_to_tensor(weight))
            for weight in (self.alpha, self.gamma, self.beta)
        )
        sizes = alpha * channel_norms(
            inputs, self.norm, self.epsilon, self.data_format
        )  # [B, C]
        sizes = normalize_channels(sizes, self.norm, self.epsilon)
        gate = 1 + ops.tanh(gamma * sizes + beta)  # [B, C]
        return expand_channel_gate(
            ops.cast(gate, inputs.dtype), self.data_format, len(inputs.shape)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "norm": self.norm,
            "epsilon": self.epsilon,
            **{
                name: keras.initializers.serialize(getattr(self, name))
                for name in (
                    "alpha_initializer",
                    "gamma_initializer",
                    "beta_initializer",
                )
            },
        }
