from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_head_convolution import (
    BaseHeadConvolution,
)
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.types import Shape
from keras_attention.types import Tensor


@keras.saving.register_keras_serializable(package="keras_attention")
class LightweightConv1D(BaseHeadConvolution):
    """Depthwise convolution over time, its softmax filters shared by heads.

    Each of H heads is a block of D / H neighboring channels with one filter
    of K taps, which a softmax turns into an average over positions:

        o[t, c] = sum over j < K of softmax(W[h(c)])[j] * x[t + j - P, c]

    with h(c) = floor(c H / D), and x zero outside the sequence. P is
    (K - 1) // 2, as for padding "same" in Keras, or K - 1 for a causal layer,
    whose outputs see no later input. The layer has H·K weights; time and
    memory are linear in T. K may be even, which the authors' code does not
    allow.

    A mask is used and passed on: masked positions are replaced by zeros
    before the convolution, whatever they hold.

    Args:
        num_heads: H; the number of channels must be a multiple of it.
        kernel_size: K.
        causal: whether an output depends on no later input.
        weight_softmax: whether filters are normalized. `False` leaves them
            as they are, a depthwise convolution with shared weights.
        weight_dropout: share of the normalized weights that is dropped in
            training (DropConnect); the others are scaled up.
        shared_dropout: whether one drawing of weights holds for the whole
            batch and all positions. `False` draws for each position.
        renormalize_padding: whether the softmax is over only those taps that
            fall inside the sequence, and on positions that the mask leaves
            in; the weights that a position uses then sum to one. A position
            all of whose taps are outside gets zero. Needs `weight_softmax`.
        use_bias: whether a bias for each channel is added.
        seed: integer that makes dropout reproducible.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`. The kernel is initialized as the authors do,
            in the shape `(K, 1, H)` of a grouped convolution, to which a
            Glorot initializer gives K and H·K as fans.

    Call arguments:
        inputs: sequence tensor.
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
            for a cache of another shape or a layer that is not causal.

    Reference:
        Wu et al., Pay Less Attention with Lightweight and Dynamic
        Convolutions, ICLR 2019, arXiv:1901.10430, section 3.

    Example:

    >>> layer = keras_attention.LightweightConv1D(8, 31, causal=True)
    >>> x = np.random.normal(size=(2, 10, 16)).astype("float32")
    >>> y = layer(x)
    >>> tuple(y.shape), layer.count_params()  # 8 * 31
    ((2, 10, 16), 248)

    Decoding, the first nine positions together and then one:

    >>> cache = layer.initial_cache(batch_size=2)
    >>> start, cache = layer(x[:, :9], cache=cache)
    >>> last, cache = layer(x[:, 9:], cache=cache)
    >>> np.allclose(last[:, 0], y[:, 9], atol=1e-5)
    True
    """

    def build(self, input_shape: Shape) -> None:
        self.build_channels(input_shape)
        initializer = clone_initializer(self.kernel_initializer)

        def initialize(shape, dtype):
            heads, taps = shape
            kernel = initializer((taps, 1, heads), dtype=dtype)
            return ops.transpose(kernel[:, 0])

        self.kernel = self.add_weight(
            shape=(self.num_heads, self.kernel_size),
            initializer=initialize,
            regularizer=self.kernel_regularizer,
            # The softmax is in float32, and so is what goes into it.
            autocast=False,
            name="kernel",
        )

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: dict | None = None,
        training: bool | None = None,
    ) -> Any:
        # Keras sets `inputs_mask`, not `mask`, if there is also a cache.
        mask = inputs_mask if mask is None else mask
        inputs, mask = self.prepare(inputs, mask, cache)
        logits = ops.convert_to_tensor(self.kernel)  # [H, K]
        return self.apply_filters(inputs, logits, mask, cache, training)
