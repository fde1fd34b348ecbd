from typing import Any

import keras

from keras_attention.models.transformer.base_block import BaseBlock
from keras_attention.models.transformer.convolution_mixer import output_spec
from keras_attention.ops.attention.masks import replace_masked_tokens
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor


@keras.saving.register_keras_serializable(package="keras_attention")
class TransformerEncoderBlock(BaseBlock):
    """A mixer and a feed-forward network, each with a residual sum and norm.

    Norms come last, as in the paper:

        x = norm(x + dropout(mixer(x)))
        y = norm(x + dropout(W2 activation(W1 x + b1) + b2))

    or, with `norm_first`, before each part: `x + dropout(mixer(norm(x)))`;
    the network around the blocks then ends with a norm.

    The mixer is any layer `(batch, time, channels)` to the same shape. It is
    given the mask and the training mode if its `call` takes them; without a
    mask it gets zeros in the padding. If it has `initial_cache` and takes a
    `cache`, so does the block. With a causal mixer it is the block of a
    language model.

    Args:
        mixer: a keras layer that no other block has.
        feed_forward_dim: units of the hidden layer.
        dropout: rate, on what is added to the residual.
        activation: Activation of the hidden layer.
        norm_first: whether the norms come first.
        epsilon: Epsilon of the norms.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer` of the feed-forward
            network, and the arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: sequence tensor.
        mask: booleans of shape `(batch, time)`; passed on.
        cache: as made by `initial_cache`; the next cache is then returned
            after the output.
        training: whether dropout is applied.

    Input shape:
        `(batch, time, channels)`. Batch and time may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section
        3.1. `norm_first`: Xiong et al., arXiv:2002.04745.

    Example:

    >>> from keras_attention.models.transformer import TransformerEncoderBlock
    >>> block = TransformerEncoderBlock(
    ...     keras_attention.MultiHeadAttention(4, causal=True), 32)
    >>> x = np.ones((2, 5, 16), "float32")
    >>> tuple(block(x).shape)
    (2, 5, 16)
    """

    def build(self, input_shape: Shape) -> None:
        self.build_parts(input_shape)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        # Keras sets `inputs_mask`, not `mask`, if there is also a cache.
        mask = inputs_mask if mask is None else mask
        inputs, mask = replace_masked_tokens(inputs, mask)
        x, cache = self.mix_positions(inputs, mask, cache, training)
        x = self.feed_forward(x, training)
        return x if cache is None else (x, cache)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        mask = inputs_mask if mask is None else mask
        if cache is not None:
            self.mixer.compute_output_spec(inputs, cache=cache)  # checks it
        return output_spec(self, inputs, mask, cache)
