from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.layers import MultiHeadAttention
from keras_attention.models.transformer.beam_search import CachedStep
from keras_attention.models.transformer.beam_search import Hypothesis
from keras_attention.models.transformer.beam_search import WholeStep
from keras_attention.models.transformer.beam_search import beam_search
from keras_attention.models.transformer.compiled_step import compiled_step
from keras_attention.models.transformer.decoder_block import (
    TransformerDecoderBlock,
)
from keras_attention.models.transformer.encoder_block import (
    TransformerEncoderBlock,
)
from keras_attention.models.transformer.language_model import deserialize_mixers
from keras_attention.models.transformer.language_model import make_cache
from keras_attention.models.transformer.language_model import make_final_norm
from keras_attention.models.transformer.language_model import next_cache
from keras_attention.models.transformer.language_model import run_blocks
from keras_attention.models.transformer.language_model import serialize_mixers
from keras_attention.models.transformer.mixers import Mixer
from keras_attention.models.transformer.mixers import has_cache
from keras_attention.models.transformer.mixers import make_mixers
from keras_attention.models.transformer.token_embedding import TokenEmbedding
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class TransformerEncoderDecoder(keras.Model):
    """Encoder and decoder of blocks whose mixer can be replaced.

    The decoder attends to the encoder's output with multi-head attention,
    whatever the mixers are. Its logits are by its embedding's transpose.
    Token 0 is padding; texts are padded on the right.

    Args:
        source_vocabulary_size: number of source tokens.
        target_vocabulary_size: number of target tokens.
        mixer: Token mixer of the encoder, and if it is a name of the decoder
            too; see `TransformerLanguageModel`.
        decoder_mixer: Token mixer of the decoder, causal; `None` is `mixer`,
            which must then be a name.
        width: number of channels.
        num_encoder_blocks: number of blocks.
        num_decoder_blocks: number of blocks.
        num_heads: Number of heads of all attention and of the convolutions by
            heads.
        feed_forward_dim: units of a block's hidden layer.
        encoder_kernel_sizes: Kernel sizes of the convolutions, one for each
            block; `None` is 3, 7, 15, 31, 31, ...
        decoder_kernel_sizes: the same for the decoder.
        mixer_arguments: more arguments of a named mixer's layer, in encoder
            and decoder.
        dropout: rate, on the embeddings and on what is added to residuals.
        attention_dropout: rate, on the scores of the decoder's attention to
            the encoder.
        norm_first: whether a block's norms come first; encoder and decoder
            then end with one.
        positions: `"sinusoidal"`, or `None` for mixers that know the order.
        **kwargs: the arguments of `keras.Model`.

    Call arguments:
        inputs: list of source and target tokens, `(batch, source time)` and
            `(batch, time)`.
        training: whether dropout is applied.

    Input shape:
        A list of two shapes, `(batch, source time)` and `(batch, time)`.

    Output shape:
        `(batch, time, target_vocabulary_size)`: logits of the next token.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Vaswani et al., arXiv:1706.03762; Wu et al., arXiv:1901.10430.

    Example:

    >>> from keras_attention.models import TransformerEncoderDecoder
    >>> model = TransformerEncoderDecoder(
    ...     50, 60, "lightweight", width=16, num_encoder_blocks=2,
    ...     num_decoder_blocks=1, num_heads=4, feed_forward_dim=32)
    >>> source = np.array([[7, 9, 3, 0], [5, 6, 8, 3]])
    >>> tuple(model([source, source[:, :3]]).shape)
    (2, 3, 60)
    >>> found = model.translate(source, begin=2, end=3, max_new_tokens=5)
    >>> len(found)
    2
    """

    def __init__(
        self,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        mixer: Mixer | Sequence[keras.layers.Layer] = "attention",
        decoder_mixer: Mixer | Sequence[keras.layers.Layer] | None = None,
        width: int = 512,
        num_encoder_blocks: int = 6,
        num_decoder_blocks: int = 6,
        num_heads: int = 8,
        feed_forward_dim: int = 2048,
        encoder_kernel_sizes: Sequence[int] | None = None,
        decoder_kernel_sizes: Sequence[int] | None = None,
        mixer_arguments: dict[str, Any] | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        norm_first: bool = False,
        positions: str | None = "sinusoidal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if decoder_mixer is None:
            if not isinstance(mixer, str):
                raise ValueError(
                    "A mixer given as a layer is the encoder's; the decoder's, "
                    "which must be causal, is `decoder_mixer`. Received: "
                    f"mixer={mixer!r}, decoder_mixer=None"
                )
            decoder_mixer = mixer
        check_positive_integer("num_encoder_blocks", num_encoder_blocks)
        check_positive_integer("num_decoder_blocks", num_decoder_blocks)
        self.num_heads = num_heads
        self.encoder_kernel_sizes = encoder_kernel_sizes and list(
            encoder_kernel_sizes
        )
        self.decoder_kernel_sizes = decoder_kernel_sizes and list(
            decoder_kernel_sizes
        )
        self.mixer_arguments = mixer_arguments
        self.attention_dropout = attention_dropout
        self.source_embedding, self.target_embedding = (
            TokenEmbedding(
                size,
                width,
                positions,
                dropout,
                name=name,
                dtype=self.dtype_policy,
            )
            for name, size in (
                ("source_embedding", source_vocabulary_size),
                ("target_embedding", target_vocabulary_size),
            )
        )

        def mixers(mixer, count, causal, kernel_sizes):
            return make_mixers(
                mixer,
                count,
                causal,
                num_heads,
                kernel_sizes,
                mixer_arguments if isinstance(mixer, str) else None,
                self.dtype_policy,
            )

        block = {
            "feed_forward_dim": feed_forward_dim,
            "dropout": dropout,
            "norm_first": norm_first,
            "dtype": self.dtype_policy,
        }
        self.encoder_blocks = [
            TransformerEncoderBlock(layer, name=f"encoder_block{n}", **block)
            for n, layer in enumerate(
                mixers(mixer, num_encoder_blocks, False, encoder_kernel_sizes),
                1,
            )
        ]
        self.decoder_blocks = [
            TransformerDecoderBlock(
                layer,
                MultiHeadAttention(
                    num_heads,
                    dropout=attention_dropout,
                    name="cross_attention",
                    dtype=self.dtype_policy,
                ),
                name=f"decoder_block{n}",
                **block,
            )
            for n, layer in enumerate(
                mixers(
                    decoder_mixer,
                    num_decoder_blocks,
                    True,
                    decoder_kernel_sizes,
                ),
                1,
            )
        ]
        self.encoder_norm = make_final_norm(self, norm_first, "encoder_norm")
        self.decoder_norm = make_final_norm(self, norm_first, "decoder_norm")

    def build(self, inputs_shape: Sequence[Shape]) -> None:
        shape = (None, None, self.source_embedding.width)
        self.source_embedding.build((None, None))
        self.target_embedding.build((None, None))
        for block in self.encoder_blocks:
            block.build(shape)
        for block in self.decoder_blocks:
            block.build(shape, shape)
        for norm in (self.encoder_norm, self.decoder_norm):
            if norm is not None:
                norm.build(shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        source, target = inputs
        memory = self.encode(source, training=training)
        memory_mask = ops.not_equal(source, 0)
        return self.decode(target, memory, memory_mask, training=training)

    def encode(self, source: Tensor, training: bool | None = None) -> Tensor:
        """Return the encoder's output, `(batch, source time, width)`."""
        mask = ops.not_equal(source, 0)
        x = self.source_embedding(source, training=training)
        x, _ = run_blocks(self.encoder_blocks, x, mask, None, training)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def encode_memory(
        self, source: Tensor, training: bool | None = None
    ) -> list[Cache]:
        """Return the keys and values of each decoder block's attention.

        They are computed once; `decode` takes them in the place of the
        encoder's output, with the same result.
        """
        encoded = self.encode(source, training=training)
        mask = ops.not_equal(source, 0)
        return [
            block.encode_memory(encoded, mask) for block in self.decoder_blocks
        ]

    def decode(
        self,
        target: Tensor,
        memory: Any,
        memory_mask: Tensor | None = None,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        """Return logits `(batch, time, V)`, and with a cache the next one.

        Args:
            target: tokens `(batch, time)`; with a cache the new ones.
            memory: what `encode` or `encode_memory` returned.
            memory_mask: booleans `(batch, source time)`; `None` for what
                `encode_memory` returned.
            cache: as made by `initial_cache`.
            training: whether dropout is applied.
        """
        memories = memory
        if not isinstance(memory, list):
            memories = [memory] * len(self.decoder_blocks)
        start = None if cache is None else cache["position"]
        x = self.target_embedding(target, start=start, training=training)
        x, caches = run_blocks(
            self.decoder_blocks,
            x,
            ops.not_equal(target, 0),
            cache,
            training,
            [{"memory": each, "memory_mask": memory_mask} for each in memories],
        )
        if self.decoder_norm is not None:
            x = self.decoder_norm(x)
        logits = self.target_embedding.to_logits(x)
        if cache is None:
            return logits
        return logits, next_cache(target, cache, caches)

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> dict[str, Any]:
        """Return the decoder's cache; see `TransformerLanguageModel`."""
        return make_cache(self.decoder_blocks, batch_size, max_length)

    def translate(
        self,
        source: Tensor,
        begin: int,
        end: int,
        max_new_tokens: int,
        beam_size: int = 1,
        length_penalty: float = 0.6,
    ) -> list[Hypothesis]:
        """Translate sentences; see `beam_search`.

        Args:
            source: tokens `(count, source time)`, padded with zeros.
            begin: the token that begins a target.
            end: the token that ends one.
            max_new_tokens: largest number of tokens of a target.
            beam_size: number of beams; 1 is greedy.
            length_penalty: exponent of the length penalty.
        """
        check_positive_integer("max_new_tokens", max_new_tokens)
        check_positive_integer("beam_size", beam_size)
        source = ops.convert_to_tensor(source, "int32")
        if not self.built:
            self.build([(None, None), (None, None)])
        count = source.shape[0]
        encode = compiled_step(
            self,
            "encode",
            lambda source: self.encode_memory(source, training=False),
        )
        # The beams of a sentence are rows next to each other.
        memory = keras.tree.map_structure(
            lambda x: ops.repeat(x, beam_size, axis=0), encode(source)
        )
        if all(has_cache(block.mixer) for block in self.decoder_blocks):
            cache = self.initial_cache(count * beam_size, 1 + max_new_tokens)
            run = compiled_step(
                self,
                "next",
                lambda tokens, memory, cache: self.decode(
                    tokens, memory, cache=cache, training=False
                ),
            )
            step = CachedStep(
                lambda tokens, cache: run(tokens, memory, cache), cache
            )
        else:
            run = compiled_step(
                self,
                "all",
                lambda tokens, memory: self.decode(
                    tokens, memory, training=False
                ),
            )
            step = WholeStep(
                lambda tokens: run(tokens, memory), 1 + max_new_tokens
            )
        return beam_search(
            step,
            np.full((count, 1), begin),
            max_new_tokens,
            end,
            beam_size,
            length_penalty,
        )

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        return ops.not_equal(inputs[1], 0)

    def compute_output_shape(self, inputs_shape: Sequence[Shape]) -> Shape:
        return (*inputs_shape[1], self.target_embedding.vocabulary_size)

    def get_config(self) -> dict[str, Any]:
        block = self.encoder_blocks[0]
        # The mixers hold what `mixer_arguments` were.
        return {
            **super().get_config(),
            "source_vocabulary_size": self.source_embedding.vocabulary_size,
            "target_vocabulary_size": self.target_embedding.vocabulary_size,
            "mixer": serialize_mixers(self.encoder_blocks),
            "decoder_mixer": serialize_mixers(self.decoder_blocks),
            "width": self.source_embedding.width,
            "num_encoder_blocks": len(self.encoder_blocks),
            "num_decoder_blocks": len(self.decoder_blocks),
            "num_heads": self.num_heads,
            "feed_forward_dim": block.feed_forward_dim,
            "encoder_kernel_sizes": self.encoder_kernel_sizes,
            "decoder_kernel_sizes": self.decoder_kernel_sizes,
            "dropout": block.dropout,
            "attention_dropout": self.attention_dropout,
            "norm_first": block.norm_first,
            "positions": self.source_embedding.positions,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**deserialize_mixers(config, "mixer", "decoder_mixer"))
