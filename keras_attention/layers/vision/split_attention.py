from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.vision.grouped_conv_2d import GroupedConv2D
from keras_attention.layers.vision.rowwise_dense import RowwiseDense
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@register_attention("split_attention", "resnest", "splat")
class SplitAttention(WeightedLayer, BaseScoredLayer):
    """Split attention of ResNeSt: each channel chooses among the splits.

    One grouped convolution makes r splits of F channels, of different input
    channels, which are mixed by a softmax over the splits, channel by
    channel:

        u_1, ..., u_r = relu(BN(grouped convolution of x))  # [B, H, W, F]
        z = mean over positions of the sum of all u         # [B, F]
        a = softmax over the splits of G2 relu(BN(G1 z))    # [B, r, F]
        y = sum over r of a_r * u_r                         # [B, H, W, F]

    The convolution has groups·r groups and no bias; G1 and G2 are dense
    layers by group, with biases, and d = max(C·r // ratio, min_units) units
    in between. With a radix r of 1, a is a sigmoid, as in
    squeeze-and-excitation. It replaces a 3x3 convolution with its
    normalization and ReLU in the middle of a bottleneck.

    For C input channels and a kernel of K x K the layer has
    K²·F·C / groups + 2·r·F + (F·d + d·r·F) / groups + 3·d + r·F weights.

    Args:
        filters: Integer, F, the output's channels. Defaults to `None`, the
            input's.
        kernel_size: Odd integer K. Defaults to `3`.
        strides: Integer, of the convolution. Defaults to `1`.
        dilation: Integer, distance between the kernel's rows. Defaults to `1`.
        groups: Integer, the paper's cardinality. `groups * radix` divides the
            input's channels, and `groups` the filters and the units. Defaults
            to `1`.
        radix: Integer r, number of splits. Defaults to `2`.
        ratio: Integer, by which the units are fewer than the input channels
            of all splits. Defaults to `4`.
        min_units: Integer, number of units that is left of few channels.
            Defaults to `32`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"he_normal"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        training: Boolean, whether the batch normalizations use the batch.
        return_attention_scores: Boolean, whether to return a as well.
            Defaults to `False`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's, with `filters` channels, and height and width divided by
        `strides` and rounded up. The scores are `(batch, radix, filters)`.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if the groups do not divide the channels.

    Reference:
        Zhang et al., ResNeSt: Split-Attention Networks, CVPR Workshops 2022,
        arXiv:2004.08955, equations 1 to 3.

    Example:

    >>> layer = keras_attention.SplitAttention(strides=2)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 4, 3, 16), (2, 2, 16))
    """

    def __init__(
        self,
        filters: int | None = None,
        kernel_size: int = 3,
        strides: int = 1,
        dilation: int = 1,
        groups: int = 1,
        radix: int = 2,
        ratio: int = 4,
        min_units: int = 32,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.filters = check_optional_integer("filters", filters)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.strides = check_positive_integer("strides", strides)
        self.dilation = check_positive_integer("dilation", dilation)
        self.groups = check_positive_integer("groups", groups)
        self.radix = check_positive_integer("radix", radix)
        self.ratio = check_positive_integer("ratio", ratio)
        self.min_units = check_positive_integer("min_units", min_units)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        filters = self.filters or channels
        units = max(channels * self.radix // self.ratio, self.min_units)
        splits = self.groups * self.radix
        if channels % splits or filters % self.groups or units % self.groups:
            raise ValueError(
                "SplitAttention's `groups` times `radix` must divide the "
                "input's channels, and `groups` the filters and the units. "
                f"Received: groups={self.groups}, radix={self.radix} for "
                f"{channels} channels, {filters} filters and {units} units in "
                f"layer '{self.name}'."
            )
        self.convolution = GroupedConv2D(
            filters * self.radix,
            self.kernel_size,
            splits,
            self.strides,
            self.dilation,
            **self.sublayer_arguments(name="convolution"),
        )
        self.convolution.build((None, None, None, channels))
        self.norm = self.make_batch_norm(
            "norm", (None, None, None, filters * self.radix)
        )
        self.reduce = self._dense(filters, units, "reduce")
        self.reduce_norm = self.make_batch_norm("reduce_norm", (None, units))
        self.expand = self._dense(units, filters * self.radix, "expand")

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = self.convolution(to_channels_last(inputs, self.data_format))
        x = ops.relu(self.norm(x, training=training))
        splits = ops.split(x, self.radix, axis=-1)  # [B, H, W, F] each
        squeezed = sum(widen(global_average_pool(split)) for split in splits)
        hidden = self._by_group(
            self.reduce, ops.cast(squeezed, self.compute_dtype)
        )
        hidden = ops.relu(self.reduce_norm(hidden, training=training))
        scores = self._choose(self._by_group(self.expand, hidden))
        weights = ops.cast(scores, self.compute_dtype)  # [B, r, F]
        y = sum(
            split * ops.expand_dims(weights[:, number], (1, 2))
            for number, split in enumerate(splits)
        )
        return from_channels_last(y, self.data_format), scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._convolved_shape(input_shape, self.filters, self.strides)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        filters = self.filters or input_shape[self.channel_axis]
        return (input_shape[0], self.radix, filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation": self.dilation,
            "groups": self.groups,
            "radix": self.radix,
            "ratio": self.ratio,
            "min_units": self.min_units,
        }

    def _choose(self, logits):
        """`(B, groups r F/groups)` to the scores, `(B, r, F)`."""
        logits = widen(logits)
        if self.radix == 1:
            return ops.sigmoid(logits)[:, None]
        width = logits.shape[-1] // self.groups // self.radix
        logits = ops.reshape(logits, (-1, self.groups, self.radix, width))
        scores = ops.softmax(ops.swapaxes(logits, 1, 2), axis=1)
        return ops.reshape(scores, (-1, self.radix, self.groups * width))

    def _by_group(self, dense, x):
        """A dense layer of each group's channels: `(B, C)` to `(B, d)`."""
        x = ops.reshape(x, (-1, self.groups, x.shape[-1] // self.groups))
        y = dense(x)  # [B, groups, d / groups]
        return ops.reshape(y, (-1, y.shape[1] * y.shape[2]))

    def _dense(self, width, units, name):
        groups = self.groups
        dense = RowwiseDense(
            "bgi,gio->bgo",
            (groups, units // groups),
            bias_axes="go",
            **self.sublayer_arguments(name=name),
        )
        dense.build((None, groups, width // groups))
        return dense
