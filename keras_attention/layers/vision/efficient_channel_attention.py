import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_channel_gate import BaseChannelGate
from keras_attention.layers.vision.rowwise_dense import RowwiseDense
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.image.pooling import channel_windows
from keras_attention.ops.image.pooling import pad_channels
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_odd_integer


@register_attention("efficient_channel_attention", "eca")
class EfficientChannelAttention(KernelLayer, BaseChannelGate):
    """ECA: gates each channel by its neighbors, with a handful of weights.

    The mean of each channel over height and width is convolved across the
    channels, without bias; the sigmoid is the gate:

        z = mean over positions of x                      # [B, C]
        s_c = sigmoid(sum over k of w_k z_(c + k - (K - 1) / 2))
        y = x * s                                         # [B, H, W, C]

    The K weights are shared by all channels. K grows with the number of
    channels: t = |log2(C) + beta| / gamma, rounded down, and up to the next
    odd number, at least 3. That is 3 for 64 channels, 5 for 128 to 1,024 and
    7 for 2,048. The authors' networks set it by hand.

    Args:
        kernel_size: odd positive integer; `None` chooses it by the number of
            channels. If it is given, `gamma` and `beta` are not used.
        gamma: positive number of the choice.
        beta: number of the choice; `b` in the paper.
        shared: whether all channels share one filter. `False` gives each
            channel its own, K·C weights: ECA-NS.
        padding: what is beyond the first and the last channel: `"zeros"`, or
            `"circular"` for the channels of the other end.
        kernel_initializer: initializer of the filter.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
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
        TypeError, ValueError: for an argument of the wrong type or range, an
            even `kernel_size` included.

    Reference:
        Wang et al., ECA-Net: Efficient Channel Attention for Deep
        Convolutional Neural Networks, CVPR 2020, arXiv:1910.03151,
        equations 7 to 12.

    Example:

    >>> layer = keras_attention.EfficientChannelAttention()
    >>> tuple(layer(np.ones((2, 7, 5, 64), "float32")).shape)
    (2, 7, 5, 64)
    >>> layer.count_params()
    3
    """

    def __init__(
        self,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        shared: bool = True,
        padding: str = "zeros",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.kernel_size = kernel_size
        if kernel_size is not None:
            check_odd_integer("kernel_size", kernel_size)
        self.gamma = check_number("gamma", gamma, 0, exclusive_minimum=True)
        self.beta = check_number("beta", beta)
        self.shared = check_boolean("shared", shared)
        self.padding = check_choice("padding", padding, ("zeros", "circular"))

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        size = self.kernel_size or self._adaptive_kernel_size(channels)
        self._window_size = size
        if self.shared:
            # A convolution is not taken apart and computed again at every
            # position of the image, as XLA does with a sum of products.
            self.excite = keras.layers.Conv1D(
                1,
                size,
                data_format="channels_last",
                **self.sublayer_arguments(use_bias=False, name="excite"),
            )
            self.excite.build((None, channels + size - 1, 1))
        else:
            # The filters are columns, so that the initializer sees a fan-in
            # of one filter's size.
            self.excite = RowwiseDense(
                "bck,kc->bc",
                channels,
                **self.sublayer_arguments(name="excite"),
            )
            self.excite.build((None, channels, size))

    def compute_channel_gate(self, means: Tensor) -> Tensor:
        size = self._window_size
        if self.shared:
            padded = pad_channels(means, size, self.padding)
            logits = self.excite(padded[..., None])[..., 0]  # [B, C]
        else:
            windows = channel_windows(means, size, self.padding)
            logits = self.excite(windows)  # [B, C]
        return ops.sigmoid(logits)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "gamma": self.gamma,
            "beta": self.beta,
            "shared": self.shared,
            "padding": self.padding,
        }

    def _adaptive_kernel_size(self, channels):
        size = int(abs((math.log2(channels) + self.beta) / self.gamma))
        return max(3, size if size % 2 else size + 1)
