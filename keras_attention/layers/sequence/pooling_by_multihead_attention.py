from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_sequence_pooling import (
    BaseSequencePooling,
)
from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention,
)
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_sequence_rank
from keras_attention.validation import check_sequence_shape


@keras.saving.register_keras_serializable(package="keras_attention")
class PoolingByMultiheadAttention(BaseSequencePooling):
    """Pools a sequence or a set by multi-head attention of learned seeds.

        z = rFF(x)                                  # [B, T, D]
        h = LayerNorm(seeds + MultiHead(seeds, z, z))
        y = LayerNorm(h + rFF(h))                   # [B, num_seeds, D]

    PMA of the Set Transformer. rFF is a dense layer with a ReLU, applied to
    each row; each seed gives one vector. The order of the tokens has no
    effect. Masked tokens take no part and may hold anything, NaN included.

    Args:
        num_heads: Integer, number of heads, a divisor of the input's width.
        num_seeds: Integer, number of vectors that come out. Defaults to `1`.
        keepdims: Boolean, whether the output of one seed keeps the seeds'
            axis. Defaults to `False`.
        use_input_feed_forward: Boolean, whether rFF is applied to the input
            first, as in the paper and not in the authors' code. Defaults to
            `True`.
        use_layer_norm: Boolean, whether there are the layer norms of the
            paper, which the authors' code leaves out by default. Defaults to
            `True`.
        **kwargs: `kernel_initializer`, of the seeds too, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, T, D)`.
        mask: Boolean tensor `(batch, T)`, `False` for masked tokens. Keras
            passes the mask that the input carries.
        return_attention_scores: Boolean, whether to return the scores as
            well. Defaults to `False`.

    Input shape:
        `(batch, T, D)`. Batch and T may be `None`.

    Output shape:
        `(batch, num_seeds, D)`; `(batch, D)` for one seed without `keepdims`.
        Scores `(batch, num_heads, num_seeds, T)`.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range or shapes that do not fit.

    Reference:
        Lee et al., Set Transformer: A Framework for Attention-based
        Permutation-Invariant Neural Networks, ICML 2019, arXiv:1810.00825,
        equations 6, 7 and 11. Products are scaled by the width of a head, as
        in Vaswani et al.; the authors' code scales by that of all heads.

    Example:

    >>> layer = keras_attention.PoolingByMultiheadAttention(2)
    >>> x = np.ones((2, 5, 8), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 8), (2, 2, 1, 5))
    """

    def __init__(
        self,
        num_heads: int,
        num_seeds: int = 1,
        keepdims: bool = False,
        use_input_feed_forward: bool = True,
        use_layer_norm: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.num_seeds = check_positive_integer("num_seeds", num_seeds)
        self.keepdims = check_boolean("keepdims", keepdims)
        self.use_input_feed_forward = check_boolean(
            "use_input_feed_forward", use_input_feed_forward
        )
        self.use_layer_norm = check_boolean("use_layer_norm", use_layer_norm)

    def build(self, input_shape: Shape) -> None:
        channels = check_sequence_shape(self, input_shape)
        if channels % self.num_heads:
            raise ValueError(
                "The input's width must be a multiple of `num_heads`. "
                f"Received: num_heads={self.num_heads} for a width of "
                f"{channels} in layer '{self.name}'"
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: channels})
        shape = (None, None, channels)
        self.seeds = self.add_weight(
            name="seeds",
            shape=(self.num_seeds, channels),
            initializer=clone_initializer(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
        )
        if self.use_input_feed_forward:
            self.input_feed_forward = self._add_feed_forward(
                "input_feed_forward", shape
            )
        self.attention = MultiHeadAttention(
            self.num_heads, **self.sublayer_arguments("attention")
        )
        self.attention.build(shape, shape)
        self.feed_forward = self._add_feed_forward("feed_forward", shape)
        if self.use_layer_norm:
            self.attention_norm = self._add_norm("attention_norm", shape)
            self.output_norm = self._add_norm("output_norm", shape)

    def pool(
        self, inputs: Tensor, mask: Tensor | None, training: bool | None
    ) -> tuple[Any, Any]:
        if self.use_input_feed_forward:
            inputs = self.input_feed_forward(inputs)
        seeds = ops.cast(self.seeds, inputs.dtype)[None]
        seeds = ops.broadcast_to(
            seeds, (ops.shape(inputs)[0], *ops.shape(seeds)[1:])
        )
        attended, scores = self.attention(
            seeds, inputs, value_mask=mask, return_attention_scores=True
        )
        hidden = seeds + attended
        if self.use_layer_norm:
            hidden = self.attention_norm(hidden)
        y = hidden + self.feed_forward(hidden)
        if self.use_layer_norm:
            y = self.output_norm(y)
        return (y if self._keeps_axis else y[:, 0]), scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, _, channels = check_sequence_rank(self, input_shape)
        if not self._keeps_axis:
            return (batch, channels)
        return (batch, self.num_seeds, channels)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.num_heads, self.num_seeds, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_seeds": self.num_seeds,
            "keepdims": self.keepdims,
            "use_input_feed_forward": self.use_input_feed_forward,
            "use_layer_norm": self.use_layer_norm,
        }

    @property
    def _keeps_axis(self):
        return self.keepdims or self.num_seeds > 1

    def _add_feed_forward(self, name, shape):
        layer = keras.layers.Dense(
            shape[-1], activation="relu", **self.sublayer_arguments(name)
        )
        layer.build(shape)
        return layer

    def _add_norm(self, name, shape):
        layer = keras.layers.LayerNormalization(
            epsilon=1e-5, name=name, dtype=self.sublayer_policy(name)
        )
        layer.build(shape)
        return layer
