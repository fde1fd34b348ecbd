from typing import Any

from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_attention import (
    BaseImageAttention,
)
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.vision.grouped_conv_2d import GroupedConv2D
from keras_attention.layers.vision.normalization import (
    CenteredGroupNormalization,
)
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.local_convolution import local_convolution
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_positive_integer


@register_attention("contextual_transformer", "cot", "cotnet")
class ContextualTransformer(BaseImageAttention):
    """Contextual transformer block: keys of a neighborhood, fused with values.

    A convolution gives each position a key of its neighborhood, the static
    context. From the position and its key come the weights by which the
    values of the neighborhood are summed, the dynamic context. A softmax
    over both, channel by channel, fuses them:

        k = relu(BN(grouped K x K convolution of x))      # [B, H, W, C]
        a = GN(W2 relu(BN(W1 [x; k])) + b)                # [B, H, W, C/8, K²]
        v = BN(W3 x)                                      # [B, H, W, C]
        d = silu(BN(sum over the neighborhood of a v))   # [B, H, W, C]
        s = softmax over both of W5 relu(BN(W4 mean(d + k)))
        y = s_1 * d + s_2 * k                             # [B, H, W, C]

    Channel c is weighted by the weights number c modulo C / 8: eight channels
    share them. GN normalizes the K² weights of all positions of an image by
    themselves. The block replaces a 3x3 convolution with its normalization
    and ReLU in the middle of a bottleneck.

    Args:
        kernel_size: Odd integer K. Defaults to `3`.
        groups: Integer, groups of the convolution, a divisor of the channels.
            Defaults to `4`.
        shared_channels: Integer, number of channels that share their weights,
            a divisor of the channels. Defaults to `8`.
        ratio: Integer, by which W1 has fewer units than channels. Defaults to
            `2`.
        fusion_ratio: Integer, by which W4 has fewer units than the channels
            of both contexts. Defaults to `4`.
        min_units: Integer, number of units that W4 has at least. Defaults to
            `32`.
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
        return_attention_scores: Boolean, whether to return s as well.
            Defaults to `False`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's. The scores are `(batch, 2, channels)`: those of the
        dynamic and of the static context.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if `groups` or `shared_channels` do not divide the
            channels.

    Reference:
        Li et al., Contextual Transformer Networks for Visual Recognition,
        TPAMI 2022, arXiv:2107.12292, section 3.2; normalizations and the
        fusion are those of the authors' code.

    Example:

    >>> layer = keras_attention.ContextualTransformer()
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 2, 16))
    """

    def __init__(
        self,
        kernel_size: int = 3,
        groups: int = 4,
        shared_channels: int = 8,
        ratio: int = 2,
        fusion_ratio: int = 4,
        min_units: int = 32,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.kernel_size = check_odd_integer("kernel_size", kernel_size)
        self.groups = check_positive_integer("groups", groups)
        self.shared_channels = check_positive_integer(
            "shared_channels", shared_channels
        )
        self.ratio = check_positive_integer("ratio", ratio)
        self.fusion_ratio = check_positive_integer("fusion_ratio", fusion_ratio)
        self.min_units = check_positive_integer("min_units", min_units)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if channels % self.groups or channels % self.shared_channels:
            raise ValueError(
                "ContextualTransformer's `groups` and `shared_channels` must "
                f"divide the channels. Received: groups={self.groups}, "
                f"shared_channels={self.shared_channels} for {channels} "
                f"channels in layer '{self.name}'."
            )
        self.key = GroupedConv2D(
            channels,
            self.kernel_size,
            self.groups,
            **self.sublayer_arguments(name="key"),
        )
        image = (None, None, None, channels)
        self.key.build(image)
        self.key_norm = self.make_batch_norm("key_norm", image)
        units = bottleneck_width(channels, self.ratio)
        self.reduce = self._dense(units, 2 * channels, "reduce", use_bias=False)
        self.reduce_norm = self.make_batch_norm(
            "reduce_norm", (None, None, None, units)
        )
        kernels = channels // self.shared_channels
        taps = self.kernel_size**2
        self.weigh = self._dense(kernels * taps, units, "weigh")
        self.weigh_norm = CenteredGroupNormalization(
            kernels,
            epsilon=1e-5,
            dtype=self.sublayer_policy("weigh_norm"),
            name="weigh_norm",
        )
        self.weigh_norm.build((None, None, kernels * taps))
        self.value = self._dense(channels, channels, "value", use_bias=False)
        self.value_norm = self.make_batch_norm("value_norm", image)
        self.context_norm = self.make_batch_norm("context_norm", image)
        units = max(2 * channels // self.fusion_ratio, self.min_units)
        self.fuse_reduce = self._dense(units, channels, "fuse_reduce")
        self.fuse_norm = self.make_batch_norm("fuse_norm", (None, units))
        self.fuse_expand = self._dense(2 * channels, units, "fuse_expand")

    def attend_image(
        self, x: Tensor, training: bool | None, return_scores: bool
    ) -> tuple[Any, Any]:
        batch, height, width, channels = ops.shape(x)
        static = ops.relu(self.key_norm(self.key(x), training=training))
        hidden = dense_positions(
            self.reduce, ops.concatenate([x, static], axis=-1)
        )
        hidden = ops.relu(self.reduce_norm(hidden, training=training))
        row = ops.reshape(hidden, (batch, height * width, hidden.shape[-1]))
        kernels = self.weigh_norm(self.weigh(row))
        image, shared = (batch, height, width), self.shared_channels
        kernels = ops.reshape(
            kernels, (*image, 1, channels // shared, self.kernel_size**2)
        )
        values = self.value_norm(
            dense_positions(self.value, x), training=training
        )
        values = ops.reshape(values, (*image, shared, channels // shared))
        dynamic = local_convolution(values, kernels)
        dynamic = ops.reshape(dynamic, (*image, channels))
        dynamic = ops.silu(self.context_norm(dynamic, training=training))
        scores = self._fuse(dynamic, static, training)  # [B, 2, C]
        weights = ops.cast(scores, self.compute_dtype)
        y = sum(
            context * ops.expand_dims(weights[:, number], (1, 2))
            for number, context in enumerate((dynamic, static))
        )
        return y, scores

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], 2, input_shape[self.channel_axis])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "groups": self.groups,
            "shared_channels": self.shared_channels,
            "ratio": self.ratio,
            "fusion_ratio": self.fusion_ratio,
            "min_units": self.min_units,
        }

    def _fuse(self, dynamic, static, training):
        """Softmax over both contexts, `(B, 2, C)`."""
        mean = sum(widen(global_average_pool(x)) for x in (dynamic, static))
        hidden = self.fuse_reduce(ops.cast(mean, self.compute_dtype))
        hidden = ops.relu(self.fuse_norm(hidden, training=training))
        logits = widen(self.fuse_expand(hidden))
        # Both logits of a channel are next to each other.
        logits = ops.reshape(logits, (-1, dynamic.shape[-1], 2))
        return ops.softmax(ops.swapaxes(logits, 1, 2), axis=1)
