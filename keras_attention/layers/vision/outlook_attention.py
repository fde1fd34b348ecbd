from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.overlapping_windows import average_cells
from keras_attention.ops.image.overlapping_windows import fold_windows
from keras_attention.ops.image.overlapping_windows import unfold_windows
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_positive_integer


@register_attention("outlook_attention", "outlooker", "volo")
class OutlookAttention(WeightedLayer, BaseScoredLayer):
    """Outlook attention of VOLO: a position attends for its neighborhood.

    The features of a position are turned into the scores of all pairs within
    the window around it, by a dense layer and not by products of queries and
    keys. Each position of the image sums up what the windows that it is in
    say of it:

        a = (mean over a cell of x) Wa + ba       # [B, h, w, N, K², K²]
        s = softmax(a / √D)
        u = s · (windows of x Wv)                 # [B, h, w, N, K², D]
        y = (sum of u over the windows) Wo + bo   # [B, H, W, C]

    with windows of K x K around every `strides`-th position, zeros around the
    image, cells of `strides` x `strides`, and N heads of width D = C / N. The
    layer has 2·C² + C + (C + 1)·K⁴·N weights. In the paper it is the first
    half of a pre-normalized Transformer block, `x + layer(LN(x))`.

    Args:
        num_heads: Integer N, a divisor of the channels. Defaults to `8`.
        kernel_size: Odd integer K, at least 3. Defaults to `3`.
        strides: Integer, distance of the windows, at most `kernel_size`.
            Defaults to `2`, as in the published networks; the paper's
            algorithm 1 has 1.
        kernel_initializer: Initializer of Wa, Wv and Wo. Defaults to
            `"glorot_uniform"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        training: Boolean, has no effect.
        return_attention_scores: Boolean, whether to return s as well.
            Defaults to `False`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's. The scores are `(batch, h, w, num_heads, K², K²)`, where
        h and w are height and width divided by `strides` and rounded up.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `num_heads` does not divide the channels.

    Reference:
        Yuan et al., VOLO: Vision Outlooker for Visual Recognition, TPAMI
        2022, arXiv:2106.13112, equations 3 to 5 and algorithm 1.

    Example:

    >>> layer = keras_attention.OutlookAttention(num_heads=2)
    >>> x = np.ones((2, 7, 5, 8), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 8), (2, 4, 3, 2, 9, 9))
    """

    def __init__(
        self,
        num_heads: int = 8,
        kernel_size: int = 3,
        strides: int = 2,
        kernel_initializer: InitializerLike = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.strides = check_positive_integer("strides", strides)
        if kernel_size == 1:
            raise ValueError(
                "OutlookAttention's `kernel_size` must be at least 3: in a "
                "window of one position there is nothing to attend to. "
                "Received: kernel_size=1"
            )
        if strides > kernel_size:
            raise ValueError(
                "OutlookAttention's windows must cover the image: `strides` "
                f"must be at most `kernel_size`. Received: strides={strides}, "
                f"kernel_size={kernel_size}"
            )

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if channels % self.num_heads:
            raise ValueError(
                "OutlookAttention's `num_heads` must divide the channels. "
                f"Received: num_heads={self.num_heads} for {channels} "
                f"channels in layer '{self.name}'."
            )
        pairs = self.kernel_size**4
        self.value = self._dense("value", channels, channels, use_bias=False)
        self.score = self._dense("score", channels, pairs * self.num_heads)
        self.projection = self._dense("projection", channels, channels)

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Any, Any]:
        x = to_channels_last(inputs, self.data_format)
        batch, height, width, channels = ops.shape(x)
        head = channels // self.num_heads
        area = self.kernel_size**2
        cells = average_cells(x, self.strides)  # [B, h, w, C]
        rows, columns = ops.shape(cells)[1:3]
        logits = ops.reshape(
            dense_positions(self.score, cells),
            (batch * rows * columns, self.num_heads, area, area),
        )
        scores = ops.softmax(widen(logits) * head**-0.5, axis=-1)
        values = unfold_windows(
            dense_positions(self.value, x), self.kernel_size, self.strides
        )  # [B, h, w, K², C]
        values = ops.reshape(
            values, (batch * rows * columns, area, self.num_heads, head)
        )
        update = ops.matmul(scores, ops.swapaxes(widen(values), 1, 2))
        update = ops.reshape(
            ops.swapaxes(update, 1, 2), (batch, rows, columns, area, channels)
        )
        y = fold_windows(
            update, (height, width), self.kernel_size, self.strides
        )
        y = dense_positions(self.projection, ops.cast(y, self.compute_dtype))
        shape = (batch, rows, columns, self.num_heads, area, area)
        return (
            from_channels_last(y, self.data_format),
            ops.reshape(scores, shape),
        )

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        sizes = [
            None if size is None else -(-size // self.strides)
            for size in self._spatial_shape(input_shape)
        ]
        area = self.kernel_size**2
        return (input_shape[0], *sizes, self.num_heads, area, area)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
        }

    def _dense(self, name, channels, units, **arguments):
        dense = keras.layers.Dense(
            units, **self.sublayer_arguments(name=name), **arguments
        )
        dense.build((None, None, None, channels))
        return dense
