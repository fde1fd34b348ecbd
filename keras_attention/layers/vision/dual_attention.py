from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choices
from keras_attention.validation import check_optional_integer

BRANCHES = ("position", "channel")
RATIO = 8


@register_attention("dual_attention", "danet")
class DualAttention(BaseImageAttention):
    """Dual attention of DANet: between positions, and between channels.

    Each position takes a mean of all positions, by the similarity of their
    projections; each channel one of all channels, by how much they differ:

        p = softmax(Q Kᵀ) V                               # [B, M, C]
        c = softmax(-X Xᵀ) X                              # [B, C, M]
        y = (x + α p) + (x + β c)                         # [B, H, W, C]

    with M = H·W, X the image as C rows of M positions, and Q, K, V dense
    layers over the channels with d, d and C units. Products are not scaled. α
    and β are learned and start at zero: at first, the output of both branches
    is 2 x, and that of one branch is x.

    The branch of positions has 2·(C·d + d) + C² + C + 1 weights, that of
    channels has one.

    Args:
        reduced_channels: Integer, d. Defaults to `None`, an eighth of the
            channels, at least one.
        branches: List or tuple of `"position"` and `"channel"`. Defaults to
            both.
        scale_initializer: Initializer of α and β. Defaults to `"zeros"`.
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
        The input's. The scores are those of the positions, `(batch, M, M)`,
        row by row; of the channels, `(batch, C, C)`, if that is the only
        branch.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Fu et al., Dual Attention Network for Scene Segmentation, CVPR 2019,
        arXiv:1809.02983, equations 1 to 4. The minus in front of X Xᵀ is the
        authors' code, which subtracts the products from their maximum; the
        paper has none. The convolutions around the branches in DANet's head
        are left to the network.

    Example:

    >>> layer = keras_attention.DualAttention()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 35, 35))
    """

    def __init__(
        self,
        reduced_channels: int | None = None,
        branches: Sequence[str] = BRANCHES,
        scale_initializer: InitializerLike = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.reduced_channels = check_optional_integer(
            "reduced_channels", reduced_channels
        )
        self.branches = check_choices("branches", branches, BRANCHES)
        self.scale_initializer = keras.initializers.get(scale_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if "position" in self.branches:
            width = self.reduced_channels or max(1, channels // RATIO)
            self.query = self._dense(width, channels, "query")
            self.key = self._dense(width, channels, "key")
            self.value = self._dense(channels, channels, "value")
        self.scales = [
            self.add_weight(
                name=f"{branch}_scale",
                shape=(),
                initializer=clone_initializer(self.scale_initializer),
            )
            for branch in self.branches
        ]

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, height, width, channels = ops.shape(x)
        tokens = ops.reshape(x, (batch, height * width, channels))
        found = {}
        for branch in self.branches:
            attend_along = getattr(self, f"_attend_{branch}s")
            found[branch] = attend_along(tokens, return_scores)
        y = 0
        for scale, branch in zip(self.scales, self.branches, strict=True):
            attended = ops.reshape(found[branch][0], ops.shape(x))
            y = y + (ops.cast(scale, x.dtype) * attended + x)
        scores = found["position" if "position" in found else "channel"][1]
        return y, scores[:, 0] if return_scores else None

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        size = input_shape[self.channel_axis]
        if "position" in self.branches:
            height, width = self._spatial_shape(input_shape)
            size = None if None in (height, width) else height * width
        return (input_shape[0], size, size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduced_channels": self.reduced_channels,
            "branches": self.branches,
            "scale_initializer": keras.initializers.serialize(
                self.scale_initializer
            ),
        }

    def _attend_positions(self, tokens, return_scores):
        query, key, value = (
            dense(tokens)[:, :, None]  # One head.
            for dense in (self.query, self.key, self.value)
        )
        options = AttentionOptions(scale=1.0, return_scores=return_scores)
        attended, scores = attend(query, key, value, options)
        return attended[:, :, 0], scores  # [B, M, C]

    def _attend_channels(self, tokens, return_scores):
        channels = ops.swapaxes(tokens, 1, 2)[:, :, None]  # [B, C, 1, M]
        options = AttentionOptions(scale=-1.0, return_scores=return_scores)
        attended, scores = attend(channels, channels, channels, options)
        return ops.swapaxes(attended[:, :, 0], 1, 2), scores
