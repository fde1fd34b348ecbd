from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_head_convolution import (
    BaseHeadConvolution,
)
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_sequence_rank
from keras_attention.validation import check_sequence_shape
from keras_attention.validation import check_shape


@keras.saving.register_keras_serializable(package="keras_attention")
class DynamicConv1D(BaseHeadConvolution):
    """Convolution over time whose filters each position predicts for itself.

    As `LightweightConv1D`, but the filter of K taps of each of H heads is a
    linear function of the input at that position:

        f[t] = softmax over taps of (x[t] W)        # [H, K]
        o[t, c] = sum over j < K of f[t, h(c), j] * x[t + j - P, c]

    with h(c) = floor(c H / D), and x zero outside the sequence. P is
    (K - 1) // 2, as for padding "same" in Keras, or K - 1 for a causal layer,
    whose outputs see no later input. The layer has D·H·K weights; time and
    memory are linear in T.

    The softmax is over all K taps even where the sequence is shorter than
    that. The authors' code cuts the logits off first on one of its paths, and
    its decoding then differs from its training.

    A mask is used and passed on: masked positions are replaced by zeros
    before the convolution, whatever they hold.

    Args:
        num_heads: H; the number of channels must be a multiple of it.
        kernel_size: K.
        causal: whether an output depends on no later input.
        weight_softmax: whether filters are normalized.
        weight_dropout: share of the normalized weights that is dropped in
            training (DropConnect); the others are scaled up.
        shared_dropout: whether one drawing of weights holds for the whole
            batch and all positions. By default each position has its own.
        renormalize_padding: whether the softmax is over only those taps that
            fall inside the sequence, and on positions that the mask leaves
            in; the weights that a position uses then sum to one. A position
            all of whose taps are outside gets zero. Needs `weight_softmax`.
        use_bias: whether a bias for each channel is added to the output.
        use_filter_bias: whether the prediction of the filters has a bias.
        seed: integer that makes dropout reproducible.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: sequence tensor.
        query: sequence of the same length, of any number of channels, from
            which the filters are predicted in place of `inputs`. A layer is
            built for the one or the other.
        mask: booleans of shape `(batch, time)`; taken from the input, such as
            `Embedding(mask_zero=True)` leaves on it, if it is not given.
        cache: for decoding with a causal layer: what `initial_cache`, or the
            step before, returned. The call then returns the output and the
            next cache, and steps give together what one call gives.
        training: whether weights are dropped.

    Input shape:
        `(batch, time, channels)`. Batch and time may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range; at
            build, if the channels are not a multiple of `num_heads`; at call,
            for a query or a cache of another shape, or a cache for a layer
            that is not causal.

    Reference:
        Wu et al., Pay Less Attention with Lightweight and Dynamic
        Convolutions, ICLR 2019, arXiv:1901.10430, section 4.

    Example:

    >>> layer = keras_attention.DynamicConv1D(num_heads=4, kernel_size=7)
    >>> x = np.random.normal(size=(2, 10, 16)).astype("float32")
    >>> tuple(layer(x).shape), layer.count_params()  # 16 * 4 * 7
    ((2, 10, 16), 448)
    """

    def __init__(
        self,
        num_heads: int,
        kernel_size: int,
        causal: bool = False,
        weight_softmax: bool = True,
        weight_dropout: float = 0.0,
        shared_dropout: bool = False,
        renormalize_padding: bool = False,
        use_bias: bool = False,
        use_filter_bias: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads=num_heads,
            kernel_size=kernel_size,
            causal=causal,
            weight_softmax=weight_softmax,
            weight_dropout=weight_dropout,
            shared_dropout=shared_dropout,
            renormalize_padding=renormalize_padding,
            use_bias=use_bias,
            seed=seed,
            **kwargs,
        )
        self.use_filter_bias = check_boolean("use_filter_bias", use_filter_bias)

    def build(
        self, inputs_shape: Shape, query_shape: Shape | None = None
    ) -> None:
        self.build_channels(inputs_shape)
        shape = inputs_shape if query_shape is None else query_shape
        width = check_sequence_shape(self, shape)
        self.filters = keras.layers.Dense(
            self.num_heads * self.kernel_size,
            use_bias=self.use_filter_bias,
            **self.sublayer_arguments(name="filters"),
        )
        self.filters.build((None, None, width))

    def call(
        self,
        inputs: Tensor,
        query: Tensor | None = None,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: dict | None = None,
        training: bool | None = None,
    ) -> Any:
        self._check_query(inputs, query)
        # Keras sets `inputs_mask`, not `mask`, if there are more tensors.
        mask = inputs_mask if mask is None else mask
        inputs, mask = self.prepare(inputs, mask, cache)
        if query is None:
            query = inputs
        elif mask is not None:
            query = replace_masked(ops.convert_to_tensor(query), mask)
        logits = self.filters(query)
        # Of the logits, ONNX's converter would take the shape of a matrix.
        shape = ops.shape(query)[:2]
        logits = ops.reshape(
            logits, (*shape, self.num_heads, self.kernel_size)
        )  # [B, T, H, K]
        return self.apply_filters(inputs, logits, mask, cache, training)

    def compute_output_shape(
        self, inputs_shape: Shape, query_shape: Shape | None = None
    ) -> Shape:
        return check_sequence_rank(self, inputs_shape)

    def compute_output_spec(
        self, inputs: Tensor, query: Tensor | None = None, **arguments: Any
    ) -> Any:
        self._check_query(inputs, query)
        return super().compute_output_spec(inputs, **arguments)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_filter_bias": self.use_filter_bias}

    def _check_query(self, inputs, query):
        width = self.filters.kernel.shape[0]
        if query is None:
            if width != inputs.shape[-1]:
                raise ValueError(
                    f"Layer '{self.name}' was built for filters that a query "
                    f"of {width} channels predicts. Give `query`. Received: "
                    f"query=None, inputs of shape {tuple(inputs.shape)}"
                )
            return
        expected = (*inputs.shape[:2], width)
        check_shape("query", query.shape, expected, self)
