from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_layer import ANY_RANK
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.gating import expand_channel_gate
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.pairwise import softmax_pool
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer


@register_attention("global_context", "gc")
class GlobalContext(WeightedLayer, BaseScoredLayer):
    """Global context block: one attended mean of the image, given to all of it.

    A softmax over all positions weighs the mean, and a bottleneck with a layer
    normalization turns it into what is added to every position:

        a = softmax over positions of Wk x                # [B, H, W]
        c = sum over positions of a x                     # [B, C]
        t = W2 relu(LN(W1 c + b1)) + b2                   # [B, C]
        y = x + t              fusion="add"               # [B, H, W, C]
        y = x * sigmoid(t)     fusion="multiply"

    with d = C // ratio units between W1 and W2. It is what a non-local block
    comes to when its attention does not depend on the query. As in the
    authors' code W2 starts at zero, so that with `fusion="add"` the layer
    starts as the identity.

    The authors' Wk has a bias, which the softmax takes out again: it is left
    out here. The layer has 2·C·d + 2·C + 3·d weights.

    Args:
        ratio: positive integer; the bottleneck has `channels // ratio`
            units, at least two, since one that is normalized by itself is
            constant. 16 is the paper's; 4 costs more and gave a
            little more.
        fusion: `"add"` or `"multiply"`.
        output_initializer: initializer of W2: `"zeros"` as the authors'.
        kernel_initializer: initializer of the other kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image, sequence or volume.
        return_attention_scores: whether to return `(outputs, a)`.
        mask: boolean tensor `(batch, time)` of a sequence: where it is
            `False`, the input has no effect on other positions, and the
            output is of no meaning. Masks of images and volumes are passed on
            unused.

    Input shape:
        An image `(batch, height, width, channels)`, a sequence
        `(batch, time, channels)` or a volume
        `(batch, depth, height, width, channels)`; with the channels second
        for `channels_first`. All but the channels may be `None`.

    Output shape:
        The input's; the scores have its shape without channels.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Cao et al., GCNet: Non-local Networks Meet Squeeze-Excitation Networks
        and Beyond, ICCV Workshops 2019, arXiv:1904.11492, equation 5.

    Example:

    >>> layer = keras_attention.GlobalContext(ratio=4)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 16), (2, 7, 5))
    >>> layer.count_params()  # 2 * 16 * 4 + 2 * 16 + 3 * 4
    172
    """

    ranks: ClassVar[tuple[int, ...]] = ANY_RANK

    def __init__(
        self,
        ratio: int = 16,
        fusion: str = "add",
        output_initializer: InitializerLike = "zeros",
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.ratio = check_positive_integer("ratio", ratio)
        self.fusion = check_choice("fusion", fusion, ("add", "multiply"))
        self.output_initializer = keras.initializers.get(output_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        units = bottleneck_width(channels, self.ratio, 2)
        self.attention = self._dense(1, "attention", use_bias=False)
        self.attention.build((None, None, channels))
        self.reduce = self._dense(units, "reduce")
        self.reduce.build((None, channels))
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, units))
        self.expand = self._dense(
            channels,
            "expand",
            kernel_initializer=clone_initializer(self.output_initializer),
        )
        self.expand.build((None, units))

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = to_channels_last(inputs, self.data_format)
        logits = dense_positions(self.attention, x)[..., 0]
        context, scores = softmax_pool(x, logits, mask)  # [B, C]
        hidden = self.norm(self.reduce(ops.cast(context, x.dtype)))  # [B, d]
        term = self.expand(ops.relu(hidden))  # [B, C]
        term = expand_channel_gate(term, self.data_format, len(x.shape))
        if self.fusion == "multiply":
            return apply_gate(inputs, ops.sigmoid(term)), scores
        return inputs + term, scores

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self._spatial_shape(input_shape))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "fusion": self.fusion,
            "output_initializer": keras.initializers.serialize(
                self.output_initializer
            ),
        }

    def _dense(self, units, name, **arguments):
        return keras.layers.Dense(
            units, **self.sublayer_arguments(name=name, **arguments)
        )
