import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.cosine_transform import cosine_coefficients
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.grid_pooling import adaptive_average_pool
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_divides
from keras_attention.validation import check_positive_integer

# Of a grid of 7 x 7: rows and columns of the frequencies that were the best
# alone, the best one first.
GRID = 7
ROWS = "00600114513000324635526553342261"
COLUMNS = "01052020060463526333511242113053"
BEST = tuple(zip(map(int, ROWS), map(int, COLUMNS), strict=True))


@register_attention("frequency_channel_attention", "fca", "fcanet")
class FrequencyChannelAttention(KernelLayer, BaseGate):
    """Frequency channel attention (FcaNet): SE of several frequencies.

    The global average pooling of Squeeze-and-Excitation is the lowest
    frequency of a two-dimensional discrete cosine transform. Here the
    channels are split into n groups, and each group has its own frequency
    (u, v):

        z = DCT(x) at (u, v) of a channel's group         # [B, C]
        s = sigmoid(W2 relu(W1 z))
        y = x * s                                         # [B, H, W, C]

    W1 has C // ratio units; there are no biases. The transform is
    orthonormal: of (0, 0), z is the sum of x over √(H W). Frequencies are
    those of a grid of 7x7, and are multiplied by H // 7 and W // 7 for larger
    images. The layer has 2·C·(C // ratio) weights.

    Args:
        ratio: Positive integer; the bottleneck has `channels // ratio` units.
            Defaults to `16`.
        frequencies: Positive integer n up to 32, for so many of the best
            frequencies of the paper, or a list of pairs (u, v) of integers in
            [0, 6]. n divides the channels. Defaults to `16`.
        grid_size: Integer of at least 7, rows and columns of the transform.
            Defaults to `None`: height and width of the image that the layer
            is built for. Images of another size are averaged to it, or
            repeated.
        kernel_initializer: Initializer of W1 and W2. Defaults to
            `"he_normal"`.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. The batch may
        be `None`, and with `grid_size` height and width.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if n does not divide the channels, or without `grid_size`
            for an image whose size is unknown or below 7.

    Reference:
        Qin et al., FcaNet: Frequency Channel Attention Networks, ICCV 2021,
        arXiv:2012.11879, section 3.

    Example:

    >>> layer = keras_attention.FrequencyChannelAttention(ratio=4)
    >>> x = np.ones((2, 7, 9, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 9, 16), (2, 1, 1, 16))
    >>> layer.count_params()  # 2 * 16 * 4
    128
    """

    def __init__(
        self,
        ratio: int = 16,
        frequencies: int | Sequence[Sequence[int]] = 16,
        grid_size: int | None = None,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.frequencies = _check_frequencies(frequencies)
        self.grid_size = None
        if grid_size is not None:
            self.grid_size = check_positive_integer(
                "grid_size", grid_size, minimum=GRID
            )

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        pairs = self.frequencies
        if isinstance(pairs, int):
            pairs = BEST[:pairs]
        check_divides(self, "frequencies", len(pairs), channels)
        self._grid = self._grid_of(input_shape)
        self._basis = np.stack(
            [
                np.outer(
                    *(
                        _cosines(frequency * (size // GRID), size)
                        for frequency, size in zip(
                            pair, self._grid, strict=True
                        )
                    )
                )
                for pair in pairs
            ],
            axis=-1,
        )  # [h, w, n]
        units = bottleneck_width(channels, self.ratio)
        self.reduce = self._dense(units, "relu", "reduce")
        self.reduce.build((None, channels))
        self.expand = self._dense(channels, None, "expand")
        self.expand.build((None, units))

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        if tuple(x.shape[1:3]) != self._grid:
            x = adaptive_average_pool(x, *self._grid)
        means = cosine_coefficients(x, self._basis)  # [B, C]
        # The coefficients are these means times a root, which float16 may not
        # hold: without biases, it is the same to multiply afterwards.
        logits = self.expand(self.reduce(ops.cast(means, self.compute_dtype)))
        logits = widen(logits) * math.sqrt(math.prod(self._grid))
        gate = ops.cast(ops.sigmoid(logits), self.compute_dtype)
        return expand_channel_gate(gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "frequencies": self.frequencies,
            "grid_size": self.grid_size,
        }

    def _grid_of(self, input_shape):
        if self.grid_size is not None:
            return self.grid_size, self.grid_size
        sizes = tuple(input_shape[a] for a in spatial_axes(self.data_format))
        if None in sizes or min(sizes) < GRID:
            raise ValueError(
                "FrequencyChannelAttention needs to know height and width, of "
                f"at least {GRID}, or a `grid_size` to which images are "
                f"averaged. Received: input_shape={tuple(input_shape)} for "
                f"layer '{self.name}' with grid_size=None. Give a larger "
                f"image, or set grid_size={GRID}."
            )
        return sizes

    def _dense(self, units, activation, name):
        return keras.layers.Dense(
            units,
            **self.sublayer_arguments(
                use_bias=False, activation=activation, name=name
            ),
        )


def _cosines(frequency, size):
    """Of a transform: its cosines, whose mean square is one."""
    angles = math.pi * frequency * (np.arange(size) + 0.5) / size
    return np.cos(angles) * (1 if frequency == 0 else math.sqrt(2))


def _check_frequencies(frequencies):
    """Return an integer, or a list of lists, as a file holds it."""
    if not isinstance(frequencies, list | tuple):
        number = check_positive_integer("frequencies", frequencies)
        if number > len(BEST):
            raise ValueError(
                f"`frequencies` must be at most {len(BEST)}, or a list of "
                f"pairs (u, v). Received: frequencies={frequencies}"
            )
        return number
    pairs = [
        list(pair) if isinstance(pair, list | tuple) else [pair]
        for pair in frequencies
    ]
    is_right = all(
        len(pair) == 2
        and all(_is_integer(value) and 0 <= value < GRID for value in pair)
        for pair in pairs
    )
    if not pairs or not is_right:
        raise ValueError(
            "`frequencies` must be an integer, or a list of pairs (u, v) of "
            f"integers in [0, {GRID - 1}]. Received: "
            f"frequencies={frequencies!r}"
        )
    return [[int(value) for value in pair] for pair in pairs]


def _is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
