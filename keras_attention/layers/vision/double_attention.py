from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.ops.precision import widen
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer

RATIO = 4


@register_attention("double_attention", "a2", "a2_net")
class DoubleAttention(BaseImageAttention):
    """Double attention of A²-Nets: gathers features, and distributes them.

    The image is gathered into n descriptors, each a mean of all positions by
    a map of its own; each position then takes a mean of the descriptors:

        A = x W_a + b_a                                   # [B, M, m]
        G = softmax over positions (x W_b + b_b)ᵀ A       # [B, n, m]
        Z = softmax over descriptors (x W_v + b_v) G      # [B, M, m]
        y = x + Z W_y + b_y                               # [B, H, W, C]

    with M = H·W. Its cost is linear in the image: there are M·n scores of
    each kind, where attention between all positions has M². It has
    2·C·m + 2·C·n + m + 2·n + C weights.

    Args:
        gathered_channels: Integer m, the width of a descriptor. Defaults to
            `None`, a quarter of the channels, at least one.
        num_descriptors: Integer n. Defaults to `None`, a quarter of the
            channels, at least one.
        use_residual: Boolean, whether x is added to the output. Defaults to
            `True`.
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
        The input's. The scores are `(batch, 2, M, n)`, positions row by row:
        by which each descriptor was gathered, a sum of one over M, and by
        which each position takes the descriptors, a sum of one over n.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Chen et al., A²-Nets: Double Attention Networks, NeurIPS 2018,
        arXiv:1810.11579, equations 1 to 5.

    Example:

    >>> layer = keras_attention.DoubleAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 2, 35, 4))
    """

    def __init__(
        self,
        gathered_channels: int | None = None,
        num_descriptors: int | None = None,
        use_residual: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.gathered_channels = check_optional_integer(
            "gathered_channels", gathered_channels
        )
        self.num_descriptors = check_optional_integer(
            "num_descriptors", num_descriptors
        )
        self.use_residual = check_boolean("use_residual", use_residual)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        width = self.gathered_channels or max(1, channels // RATIO)
        count = self.num_descriptors or max(1, channels // RATIO)
        self.value = self._dense(width, channels, "value")
        self.gather = self._dense(count, channels, "gather")
        self.distribute = self._dense(count, channels, "distribute")
        self.project = self._dense(channels, width, "project")

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, height, width, channels = ops.shape(x)
        tokens = ops.reshape(x, (batch, height * width, channels))
        values = widen(self.value(tokens))  # [B, M, m]
        gathering = _softmax(widen(self.gather(tokens)), axis=1)  # [B, M, n]
        distributing = _softmax(widen(self.distribute(tokens)), axis=2)
        # Not `ops.matmul`, which computes float64 in float32 on torch.
        gathered = ops.einsum("bin,bim->bnm", gathering, values)
        y = ops.einsum("bin,bnm->bim", distributing, gathered)
        y = self.project(ops.cast(y, self.compute_dtype))
        y = ops.reshape(y, (batch, height, width, channels))
        y = x + y if self.use_residual else y
        if not return_scores:
            return y, None
        return y, ops.stack([gathering, distributing], axis=1)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[self.channel_axis]
        height, width = self._spatial_shape(input_shape)
        positions = None if None in (height, width) else height * width
        count = self.num_descriptors or max(1, channels // RATIO)
        return (input_shape[0], 2, positions, count)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gathered_channels": self.gathered_channels,
            "num_descriptors": self.num_descriptors,
            "use_residual": self.use_residual,
        }


def _softmax(logits, axis):
    if logits.shape[axis] == 1:
        # One score is right here; Keras' own softmax warns of it.
        return 1 + 0 * logits
    return ops.softmax(logits, axis=axis)
