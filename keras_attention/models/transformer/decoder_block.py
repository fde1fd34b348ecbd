from typing import Any

import keras

from keras_attention.models.transformer.base_block import BaseBlock
from keras_attention.models.transformer.base_block import check_layer
from keras_attention.models.transformer.convolution_mixer import output_spec
from keras_attention.models.transformer.mixers import serialize_layer
from keras_attention.ops.attention.masks import replace_masked_tokens
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor


@keras.saving.register_keras_serializable(package="keras_attention")
class TransformerDecoderBlock(BaseBlock):
    """A mixer, attention to an encoder's output, a feed-forward network.

    As `TransformerEncoderBlock`, with a third part in the middle:

        x = norm(x + dropout(mixer(x)))
        x = norm(x + dropout(cross_attention(x, memory)))
        y = norm(x + dropout(W2 activation(W1 x + b1) + b2))

    Args:
        mixer: a causal keras layer that no other block has.
        cross_attention: a layer that is called as
            `layer(x, memory, value_mask=..., training=...)`, such as
            `MultiHeadAttention`.
        feed_forward_dim: units of the hidden layer.
        **kwargs: `dropout`, `activation`, `norm_first`, `epsilon`, and what
            else `TransformerEncoderBlock` takes.

    Call arguments:
        inputs: sequence tensor.
        memory: the encoder's output, or what `encode_memory` returned.
        mask: booleans of shape `(batch, time)`; passed on.
        memory_mask: booleans of shape `(batch, source time)`.
        cache: as made by `initial_cache`; the next cache is then returned
            after the output.
        training: whether dropout is applied.

    Input shape:
        `(batch, time, channels)` and `(batch, source time, any channels)`.

    Output shape:
        The first input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section
        3.1.

    Example:

    >>> from keras_attention.models.transformer import TransformerDecoderBlock
    >>> block = TransformerDecoderBlock(
    ...     keras_attention.LightweightConv1D(4, 3, causal=True),
    ...     keras_attention.MultiHeadAttention(4), 32)
    >>> x, memory = np.ones((2, 5, 16)), np.ones((2, 7, 16))
    >>> tuple(block(x, memory).shape)
    (2, 5, 16)
    """

    def __init__(
        self,
        mixer: keras.layers.Layer,
        cross_attention: keras.layers.Layer,
        feed_forward_dim: int,
        **kwargs: Any,
    ):
        super().__init__(mixer, feed_forward_dim, **kwargs)
        self.cross_attention = check_layer("cross_attention", cross_attention)

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        self.build_parts(inputs_shape)
        if not self.cross_attention.built:
            self.cross_attention.build(tuple(inputs_shape), tuple(memory_shape))
        self.cross_norm = self.make_norm(inputs_shape, "cross_norm")
        self.cross_dropout = self.make_dropout("cross_dropout")

    def call(
        self,
        inputs: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        mask = inputs_mask if mask is None else mask
        inputs, mask = replace_masked_tokens(inputs, mask)
        x, cache = self.mix_positions(inputs, mask, cache, training)
        y = self.cross_norm(x) if self.norm_first else x
        if isinstance(memory, dict):
            _check_no_mask(memory_mask)
            y, _ = self.cross_attention(y, cache=memory, training=training)
        else:
            memory, memory_mask = replace_masked_tokens(
                memory, memory_mask, "memory_mask"
            )
            y = self.cross_attention(
                y, memory, value_mask=memory_mask, training=training
            )
        x = x + self.cross_dropout(y, training=training)
        x = x if self.norm_first else self.cross_norm(x)
        x = self.feed_forward(x, training)
        return x if cache is None else (x, cache)

    def encode_memory(
        self, memory: Tensor, memory_mask: Tensor | None = None
    ) -> Cache:
        """Projects the encoder's output once, for many calls.

        Args:
            memory: The encoder's output.
            memory_mask: Booleans of shape `(batch, source time)`, or `None`.

        Returns:
            A dictionary of tensors for `memory` of a call, which holds the
            mask too.

        Raises:
            ValueError: If `cross_attention` has no `encode_memory`.
        """
        if not hasattr(self.cross_attention, "encode_memory"):
            raise ValueError(
                "The block's `cross_attention` must have `encode_memory`, as "
                "`MultiHeadAttention` does. Received: a layer of type "
                f"{type(self.cross_attention).__name__} in layer '{self.name}'"
            )
        memory, memory_mask = replace_masked_tokens(
            memory, memory_mask, "memory_mask"
        )
        return self.cross_attention.encode_memory(
            memory, value_mask=memory_mask
        )

    def compute_output_spec(
        self,
        inputs: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        if isinstance(memory, dict):
            _check_no_mask(memory_mask)
        else:
            output_spec(self, memory, memory_mask, None)
        mask = inputs_mask if mask is None else mask
        return output_spec(self, inputs, mask, cache)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cross_attention": serialize_layer(self.cross_attention),
        }


def _check_no_mask(memory_mask):
    # Keras passes the masks of a dictionary's tensors as a dictionary.
    if memory_mask is not None and not isinstance(memory_mask, dict):
        raise ValueError(
            "What `encode_memory` returned has its mask. Received: "
            f"memory_mask of shape {tuple(memory_mask.shape)} as well"
        )
