from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.image.relative_positions import relative_logits
from keras_attention.ops.image.windows import WindowedAxis
from keras_attention.ops.image.windows import halo_mask
from keras_attention.ops.image.windows import join_windows
from keras_attention.ops.image.windows import split_halos
from keras_attention.ops.image.windows import split_windows
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_pair
from keras_attention.validation import check_positive_integer


@register_attention("halo_attention", "halo", "halonet")
class HaloAttention(BaseImageAttention):
    """Blocked local self-attention of HaloNet, with relative positions.

    The image is cut into blocks of b x b positions. Those of a block attend
    to the same keys: the block, and a halo of h positions around it:

        Q = x Wq, in blocks, by head                      # [B n, T, N, D]
        K, V = x Wk, x Wv, in blocks with halos, by head  # [B n, S, N, D]
        s_ij = q_i · (k_j + r_h(j, i) + r_w(j, i)) / √D
        y = concatenation of softmax(s) V of the heads    # [B, H, W, F]

    with T = b² and S = (b + 2h)². r_h is a learned vector for each of the
    2·(b + h) - 1 distances in height, and r_w in width, for all heads, as in
    `BottleneckAttention`. What the paper replaces by it is the 3x3
    convolution of a bottleneck.

    An image that blocks do not divide is padded at the bottom and at the
    right, and the output is cropped. Nothing attends to positions outside of
    the image.

    For F filters it has 3·C·F + 2·(2b + 2h - 1)·F / N weights, and T·S scores
    a head and a block.

    Args:
        filters: Integer, F, the output's channels. Defaults to `None`, the
            input's.
        block_size: Integer b, or two of them, for height and width. Defaults
            to `8`.
        halo_size: Integer h of at least 0, or two of them, for height and
            width. Defaults to `3`.
        num_heads: Integer N that divides the filters. Defaults to `8`.
        key_dim: Integer, D, the width of a head's queries and keys. Defaults
            to `None`, that of its values, F / N.
        use_bias: Boolean, whether the projections have biases. Defaults to
            `False`.
        mask_padding: Boolean, whether nothing attends to positions outside of
            the image. With `False`, their keys and values are zeros. Defaults
            to `True`.
        position_initializer: Initializer of r_h and r_w. Defaults to `None`,
            normal with a standard deviation of 1 / √D.
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
        The input's, with `filters` channels. The scores are
        `(batch, blocks, N, T, S)`, blocks and positions row by row.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `num_heads` does not divide the filters.

    Reference:
        Vaswani et al., Scaling Local Self-Attention for Parameter Efficient
        Visual Backbones, CVPR 2021, arXiv:2103.12731, figure 1.

    Example:

    >>> layer = keras_attention.HaloAttention(num_heads=2)
    >>> x = np.ones((2, 16, 13, 32), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)  # 2 x 2 blocks; 8 x 8 to 14 x 14
    ((2, 16, 13, 32), (2, 4, 2, 64, 196))
    """

    def __init__(
        self,
        filters: int | None = None,
        block_size: int | Sequence[int] = 8,
        halo_size: int | Sequence[int] = 3,
        num_heads: int = 8,
        key_dim: int | None = None,
        use_bias: bool = False,
        mask_padding: bool = True,
        position_initializer: InitializerLike = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = check_optional_integer("filters", filters)
        self.block_size = check_pair("block_size", block_size)
        self.halo_size = check_pair("halo_size", halo_size, minimum=0)
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_optional_integer("key_dim", key_dim)
        self.use_bias = check_boolean("use_bias", use_bias)
        self.mask_padding = check_boolean("mask_padding", mask_padding)
        self.position_initializer = keras.initializers.get(position_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        filters = self.filters or channels
        if filters % self.num_heads:
            raise ValueError(
                "HaloAttention's `num_heads` must divide the filters. "
                f"Received: num_heads={self.num_heads} for {filters} filters "
                f"in layer '{self.name}'."
            )
        depth = self.key_dim or filters // self.num_heads
        for name, units in (
            ("query", depth * self.num_heads),
            ("key", depth * self.num_heads),
            ("value", filters),
        ):
            dense = self._dense(units, channels, name, use_bias=self.use_bias)
            setattr(self, name, dense)
        initializer = self.position_initializer
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=depth**-0.5)
        self.row_positions, self.column_positions = (
            self.add_weight(
                name=name,
                shape=(2 * (block + halo) - 1, depth),
                initializer=clone_initializer(initializer),
                autocast=False,  # Of scores of float32.
            )
            for name, block, halo in zip(
                ("row_positions", "column_positions"),
                self.block_size,
                self.halo_size,
                strict=True,
            )
        )

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, *sizes, _ = ops.shape(x)
        rows, columns = (
            WindowedAxis(size, block, shift=0)
            for size, block in zip(sizes, self.block_size, strict=True)
        )
        query, key, value = (
            # Torch narrows float64.
            ops.cast(dense_positions(dense, x), self.compute_dtype)
            for dense in (self.query, self.key, self.value)
        )
        query = self._split_heads(split_windows(query, rows, columns))
        key, value = (
            self._split_heads(split_halos(z, rows, columns, self.halo_size))
            for z in (key, value)
        )  # [B n, S, N, D]
        count, positions, heads, depth = ops.shape(query)
        bias = relative_logits(
            ops.reshape(query, (count, *self.block_size, heads, depth)),
            self.row_positions,
            self.column_positions,
        )
        options = AttentionOptions(
            mask=self._mask(batch, rows, columns),
            bias=bias,
            return_scores=return_scores,
        )
        y, scores = attend(query, key, value, options)  # [B n, T, N, D]
        filters = value.shape[2] * value.shape[3]
        y = ops.reshape(y, (count, positions, filters))
        if scores is not None:
            number = rows.count * columns.count
            shape = (batch, number, heads, positions, value.shape[1])
            scores = ops.reshape(scores, shape)
        return join_windows(y, rows, columns), scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._convolved_shape(input_shape, self.filters)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        blocks, queries, keys = 1, 1, 1
        for size, block, halo in zip(
            self._spatial_shape(input_shape),
            self.block_size,
            self.halo_size,
            strict=True,
        ):
            unknown = None in (size, blocks)
            blocks = None if unknown else blocks * -(-size // block)
            queries *= block
            keys *= block + 2 * halo
        return (input_shape[0], blocks, self.num_heads, queries, keys)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "block_size": self.block_size,
            "halo_size": self.halo_size,
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "use_bias": self.use_bias,
            "mask_padding": self.mask_padding,
            "position_initializer": keras.initializers.serialize(
                self.position_initializer
            ),
        }

    def _split_heads(self, x):
        """`(B n, T, N D)` to `(B n, T, N, D)`."""
        count, positions, width = ops.shape(x)
        heads = (self.num_heads, width // self.num_heads)
        return ops.reshape(x, (count, positions, *heads))

    def _mask(self, batch, rows, columns):
        """What is in the image: `(B n, 1, 1, S)`, or `None`."""
        if not self.mask_padding:
            return None
        mask = halo_mask(rows, columns, self.halo_size)
        if mask is None:
            return None
        number, keys = ops.shape(mask)
        mask = ops.broadcast_to(mask[None], (batch, number, keys))
        return ops.reshape(mask, (batch * number, 1, 1, keys))
