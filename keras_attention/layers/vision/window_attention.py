from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.vision.base_image_attention import number_of_heads
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.image.windows import WindowedAxis
from keras_attention.ops.image.windows import join_windows
from keras_attention.ops.image.windows import relative_index
from keras_attention.ops.image.windows import split_windows
from keras_attention.ops.image.windows import window_mask
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_pair

HEAD_WIDTH = 32


@register_attention("window_attention", "swin", "shifted_window")
class WindowAttention(BaseImageAttention):
    """Multi-head self-attention inside of windows, shifted or not, of Swin.

    The image is cut into windows of h x w positions, and each position
    attends to those of its window:

        Q, K, V = split of x W + b, by head               # [B n, T, N, D]
        head = softmax(Q Kᵀ / √D + bias) V                # [B n, T, D]
        y = concatenation of the heads, projected         # [B, H, W, C]

    with T = h·w. The bias is a learned number for each head and each of the
    (2h - 1)·(2w - 1) offsets between two positions of a window.

    With `shift_size` s, windows begin at row and column s: the image is
    shifted cyclically, and positions that are together in a window, and not
    neighbors in the image, are masked. Swin takes layers without and with a
    shift of half a window by turns. Along an axis with a single window there
    is no shift.

    An image that windows do not divide is padded with zeros at the bottom and
    at the right, and the output is cropped.

    The layer has 4·C² + 4·C + (2h - 1)·(2w - 1)·N weights.

    Args:
        window_size: Integer, or two of them: h and w. Defaults to `7`.
        shift_size: Integer, or two of them, less than the window's: the row
            and the column at which the first window begins. Defaults to `0`.
        num_heads: Integer N that divides the channels. Defaults to `None`:
            heads of 32 channels, as Swin has them. Of channels that are no
            multiple of 32, as many heads as divide them without being
            narrower.
        use_bias: Boolean, whether the projection to queries, keys and values
            has a bias. Defaults to `True`.
        mask_padding: Boolean, whether nothing attends to padding. `False` is
            the authors' code: padding counts as zeros. Defaults to `True`.
        table_initializer: Initializer of the bias's table. Defaults to
            `None`, normal with a standard deviation of 0.02.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`; `data_format`
            (`"channels_last"`, `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        return_attention_scores: Boolean, whether to return the scores as
            well. Defaults to `False`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's. The scores are `(batch, windows, N, T, T)`, windows and
        positions row by row, after the shift.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `num_heads` does not divide the channels.

    Reference:
        Liu et al., Swin Transformer: Hierarchical Vision Transformer using
        Shifted Windows, ICCV 2021, arXiv:2103.14030, section 3.2 and equation
        4. The layer is W-MSA and SW-MSA there: without the norm before and
        the residual connection around it.

    Example:

    >>> layer = keras_attention.WindowAttention(7, shift_size=3)
    >>> x = np.ones((2, 16, 12, 64), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)  # 3 x 2 windows of 49 positions
    ((2, 16, 12, 64), (2, 6, 2, 49, 49))
    """

    def __init__(
        self,
        window_size: int | Sequence[int] = 7,
        shift_size: int | Sequence[int] = 0,
        num_heads: int | None = None,
        use_bias: bool = True,
        mask_padding: bool = True,
        table_initializer: InitializerLike = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.window_size = check_pair("window_size", window_size, 1)
        self.shift_size = check_pair("shift_size", shift_size, 0)
        if any(
            shift >= window
            for shift, window in zip(
                self.shift_size, self.window_size, strict=True
            )
        ):
            raise ValueError(
                "`shift_size` must be less than `window_size`; half of it, "
                f"rounded down, is usual. Received: shift_size={shift_size} "
                f"for window_size={window_size}"
            )
        self.num_heads = check_optional_integer("num_heads", num_heads)
        self.use_bias = check_boolean("use_bias", use_bias)
        self.mask_padding = check_boolean("mask_padding", mask_padding)
        self.table_initializer = keras.initializers.get(table_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        self._heads = number_of_heads(
            self, self.num_heads, channels, HEAD_WIDTH
        )
        height, width = self.window_size
        initializer = self.table_initializer
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.relative_bias = self.add_weight(
            name="relative_bias",
            shape=((2 * height - 1) * (2 * width - 1), self._heads),
            initializer=clone_initializer(initializer),
            autocast=False,  # Added to scores of float32.
        )
        self._index = relative_index(height, width).ravel()
        self.qkv = self._dense(
            3 * channels, channels, "qkv", use_bias=self.use_bias
        )
        self.project = self._dense(channels, channels, "project")

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, *sizes, channels = ops.shape(x)
        rows, columns = (
            WindowedAxis(*axis)
            for axis in zip(
                sizes, self.window_size, self.shift_size, strict=True
            )
        )
        windows = split_windows(x, rows, columns)  # [B n, T, C]
        count, positions = ops.shape(windows)[0], windows.shape[1]
        heads = (self._heads, channels // self._heads)
        qkv = ops.reshape(self.qkv(windows), (count, positions, 3, *heads))
        mask = window_mask(rows, columns, self.mask_padding)  # [n, T, T]
        if mask is not None:
            shape = (batch, *ops.shape(mask))
            mask = ops.broadcast_to(mask[None], shape)
            mask = ops.reshape(mask, (count, 1, positions, positions))
        options = AttentionOptions(
            mask=mask,
            bias=self._bias(positions),
            return_scores=return_scores,
        )
        query, key, value = (qkv[:, :, n] for n in range(3))
        y, scores = attend(query, key, value, options)
        y = self.project(ops.reshape(y, (count, positions, channels)))
        if scores is not None:
            number = rows.count * columns.count
            shape = (batch, number, self._heads, positions, positions)
            scores = ops.reshape(scores, shape)
        return join_windows(y, rows, columns), scores

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        windows, positions = 1, 1
        for size, window in zip(
            self._spatial_shape(input_shape), self.window_size, strict=True
        ):
            unknown = None in (size, windows)
            windows = None if unknown else windows * -(-size // window)
            positions *= window
        heads = number_of_heads(
            self, self.num_heads, input_shape[self.channel_axis], HEAD_WIDTH
        )
        return (input_shape[0], windows, heads, positions, positions)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "window_size": self.window_size,
            "shift_size": self.shift_size,
            "num_heads": self.num_heads,
            "use_bias": self.use_bias,
            "mask_padding": self.mask_padding,
            "table_initializer": keras.initializers.serialize(
                self.table_initializer
            ),
        }

    def _bias(self, positions):
        """The table by offset: `(1, N, T, T)`."""
        bias = ops.take(self.relative_bias, self._index, axis=0)
        bias = ops.reshape(bias, (1, positions, positions, self._heads))
        return ops.transpose(bias, (0, 3, 1, 2))
