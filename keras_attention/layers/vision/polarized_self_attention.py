from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.normalization import softmax_over_positions
from keras_attention.ops.image.pairwise import softmax_pool
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice

LAYOUTS = ("parallel", "sequential")


@register_attention("polarized_self_attention", "psa")
class PolarizedSelfAttention(WeightedLayer, BaseGate):
    """Polarized self-attention (PSA): a gate by channel and one by position.

    With d = C // 2, j one of the positions and g the mean over positions of
    W3 x, either in parallel, with both gates of the same image,

        a = sigmoid(W5 W2 (sum over j of softmax_j(w1 · x_j) x_j))  # [B, C]
        s = sigmoid(softmax_j(g · W4 x_j))                # [B, H, W, 1]
        y = x * a + x * s                                 # layout="parallel"

    or in sequence, where s is that of z = x * a, and W5 is replaced by a
    dense layer to d // 4, a layer normalization, ReLU and a dense layer to C:

        s = sigmoid(g · softmax_j(W4 z_j))                # [B, H, W, 1]
        y = z * s                                         # layout="sequential"

    The softmaxes are over the positions. In `"sequential"` the last two dense
    layers have biases; nothing else has.

    These are the authors' two modules. The paper has the layer normalization
    in both layouts, without the layer to d // 4, and takes the softmax over
    the d channels of g.

    Args:
        layout: `"parallel"` or `"sequential"`. Defaults to `"parallel"`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"he_normal"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's. The gate, a + s in parallel and a * s in sequence, is in
        [0, 2].

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Liu et al., Polarized Self-Attention: Towards High-quality Pixel-wise
        Regression, 2021, arXiv:2107.00782, section 3.

    Example:

    >>> layer = keras_attention.PolarizedSelfAttention("sequential")
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> layer.count_params()
    470
    """

    def __init__(
        self,
        layout: str = "parallel",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.layout = check_choice("layout", layout, LAYOUTS)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        width = bottleneck_width(channels, 2)
        self.channel_query = self._dense(1, channels, "channel_query")
        self.channel_value = self._dense(width, channels, "channel_value")
        self.spatial_query = self._dense(width, channels, "spatial_query")
        self.spatial_value = self._dense(width, channels, "spatial_value")
        if self.layout == "parallel":
            self.expand = self._dense(channels, width, "expand")
            return
        units = bottleneck_width(width, 4)
        self.reduce = self._dense(units, width, "reduce", use_bias=True)
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, units))
        self.expand = self._dense(channels, units, "expand", use_bias=True)

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        x = to_channels_last(inputs, self.data_format)
        by_channel = ops.expand_dims(self._channel_gate(x), (1, 2))
        if self.layout == "parallel":
            gate = by_channel + self._spatial_gate(x)
        else:
            scaled = apply_gate(x, by_channel)
            gate = by_channel * self._spatial_gate(scaled)
        return from_channels_last(gate, self.data_format)  # [B, H, W, C]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layout": self.layout}

    def _channel_gate(self, x):
        """The gate of the channels, `(B, C)`."""
        # The value of the mean is the mean of the values.
        mean, _ = softmax_pool(
            x, dense_positions(self.channel_query, x)[..., 0]
        )
        pooled = self.channel_value(ops.cast(mean, x.dtype))  # [B, d]
        if self.layout == "sequential":
            pooled = ops.relu(self.norm(self.reduce(pooled)))
        return ops.sigmoid(self.expand(pooled))

    def _spatial_gate(self, x):
        """The gate of the positions, `(B, H, W, 1)`."""
        mean = ops.cast(mean_over_positions(x, (1, 2)), x.dtype)
        query = ops.expand_dims(widen(self.spatial_query(mean)), (1, 2))
        values = widen(dense_positions(self.spatial_value, x))  # [B, H, W, d]
        if self.layout == "sequential":
            values = softmax_over_positions(values)
        logits = ops.sum(values * query, axis=-1, keepdims=True)
        if self.layout == "parallel":
            logits = softmax_over_positions(logits)
        return ops.cast(ops.sigmoid(logits), x.dtype)

    def _dense(self, units, width, name, use_bias=False):
        dense = keras.layers.Dense(
            units, **self.sublayer_arguments(use_bias=use_bias, name=name)
        )
        dense.build((None, width))
        return dense
