from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.models.transformer.beam_search import CachedStep
from keras_attention.models.transformer.beam_search import Hypothesis
from keras_attention.models.transformer.beam_search import WholeStep
from keras_attention.models.transformer.beam_search import beam_search
from keras_attention.models.transformer.compiled_step import compiled_step
from keras_attention.models.transformer.encoder_block import (
    TransformerEncoderBlock,
)
from keras_attention.models.transformer.mixers import Mixer
from keras_attention.models.transformer.mixers import has_cache
from keras_attention.models.transformer.mixers import make_mixers
from keras_attention.models.transformer.mixers import serialize_layer
from keras_attention.models.transformer.token_embedding import TokenEmbedding
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class TransformerLanguageModel(keras.Model):
    """Language model of blocks whose mixer can be replaced.

    Embedding and sinusoids, blocks, and logits by the embedding's transpose.
    Token 0 is padding; texts are padded on the right.

    Args:
        vocabulary_size: number of tokens.
        mixer: `"attention"`, `"lightweight"`, `"dynamic"`, `"convolution"` or
            `"lstm"`; a class or function that returns a new keras layer when
            it is called without arguments; or a list of layers, one for each
            block. A layer of yours must be causal: if it sees later tokens,
            the model learns to copy them.
        width: number of channels.
        num_blocks: number of blocks.
        num_heads: Number of heads of attention and of the convolutions by
            heads.
        feed_forward_dim: units of a block's hidden layer.
        kernel_sizes: Kernel sizes of the convolutions, one for each block;
            `None` is 3, 7, 15, 31, 31, ...
        mixer_arguments: more arguments of a named mixer's layer, such as
            `{"dropout": 0.1}`.
        dropout: rate, on the embedding and on what is added to residuals.
        norm_first: whether a block's norms come first; the model then ends
            with one.
        positions: `"sinusoidal"`, or `None` for mixers that know the order.
        **kwargs: the arguments of `keras.Model`.

    Call arguments:
        tokens: integers of shape `(batch, time)`.
        cache: as made by `initial_cache`; the next cache is then returned
            after the logits.
        training: whether dropout is applied.

    Input shape:
        `(batch, time)`.

    Output shape:
        `(batch, time, vocabulary_size)`: logits of the next token.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Vaswani et al., arXiv:1706.03762; Wu et al., arXiv:1901.10430.

    Example:

    >>> from keras_attention.models import TransformerLanguageModel
    >>> model = TransformerLanguageModel(
    ...     50, "dynamic", width=16, num_blocks=2, num_heads=4,
    ...     feed_forward_dim=32)
    >>> tokens = np.array([[2, 7, 9, 0], [2, 5, 6, 8]])
    >>> tuple(model(tokens).shape)
    (2, 4, 50)
    >>> len(model.generate([[2, 7]], max_new_tokens=5)[0].tokens)
    5
    """

    def __init__(
        self,
        vocabulary_size: int,
        mixer: Mixer | Sequence[keras.layers.Layer] = "attention",
        width: int = 512,
        num_blocks: int = 6,
        num_heads: int = 8,
        feed_forward_dim: int = 2048,
        kernel_sizes: Sequence[int] | None = None,
        mixer_arguments: dict[str, Any] | None = None,
        dropout: float = 0.1,
        norm_first: bool = False,
        positions: str | None = "sinusoidal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_blocks = check_positive_integer("num_blocks", num_blocks)
        self.num_heads = num_heads
        self.kernel_sizes = kernel_sizes and list(kernel_sizes)
        self.mixer_arguments = mixer_arguments
        self.embedding = TokenEmbedding(
            vocabulary_size,
            width,
            positions,
            dropout,
            name="embedding",
            dtype=self.dtype_policy,
        )
        mixers = make_mixers(
            mixer,
            num_blocks,
            causal=True,
            num_heads=num_heads,
            kernel_sizes=kernel_sizes,
            arguments=mixer_arguments,
            dtype=self.dtype_policy,
        )
        self.blocks = [
            TransformerEncoderBlock(
                layer,
                feed_forward_dim,
                dropout,
                norm_first=norm_first,
                name=f"block{number}",
                dtype=self.dtype_policy,
            )
            for number, layer in enumerate(mixers, 1)
        ]
        self.final_norm = make_final_norm(self, norm_first, "final_norm")

    def build(self, tokens_shape: Shape) -> None:
        self.embedding.build((None, None))
        shape = (None, None, self.embedding.width)
        for block in self.blocks:
            block.build(shape)
        if self.final_norm is not None:
            self.final_norm.build(shape)

    def call(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        mask = ops.not_equal(tokens, 0)
        start = None if cache is None else cache["position"]
        x = self.embedding(tokens, start=start, training=training)
        x, caches = run_blocks(self.blocks, x, mask, cache, training)
        if self.final_norm is not None:
            x = self.final_norm(x)
        logits = self.embedding.to_logits(x)
        if cache is None:
            return logits
        return logits, next_cache(tokens, cache, caches)

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> dict[str, Any]:
        """Return the cache with which decoding starts.

        A step takes one token or several; all rows have the same number, and
        no padding.

        Args:
            batch_size: number of rows.
            max_length: largest number of tokens, which attention must know.

        Raises:
            ValueError: If a mixer has no cache, or the model is not built.
        """
        return make_cache(self.blocks, batch_size, max_length)

    def generate(
        self,
        prompts: Any,
        max_new_tokens: int,
        end: int | None = None,
        beam_size: int = 1,
        length_penalty: float = 0.6,
    ) -> list[Hypothesis]:
        """Continue prompts; see `beam_search`.

        With mixers that have caches each step computes the newest token
        only; with others all are computed again.

        Args:
            prompts: integers `(count, time)`, without padding.
            max_new_tokens: largest number of tokens to add.
            end: the token that ends a text.
            beam_size: number of beams; 1 is greedy.
            length_penalty: exponent of the length penalty.
        """
        check_positive_integer("max_new_tokens", max_new_tokens)
        check_positive_integer("beam_size", beam_size)
        prompts = ops.convert_to_numpy(ops.convert_to_tensor(prompts, "int32"))
        if not self.built:
            self.build((None, None))
        count, start = prompts.shape
        longest = start + max_new_tokens
        if all(has_cache(block.mixer) for block in self.blocks):
            cache = self.initial_cache(count * beam_size, longest)
            run = compiled_step(
                self,
                "next",
                lambda tokens, cache: self(tokens, cache=cache, training=False),
            )
            step = CachedStep(run, cache)
        else:
            run = compiled_step(
                self, "all", lambda tokens: self(tokens, training=False)
            )
            step = WholeStep(run, longest)
        return beam_search(
            step, prompts, max_new_tokens, end, beam_size, length_penalty
        )

    def compute_mask(self, tokens: Tensor, mask: Tensor | None = None) -> Any:
        return ops.not_equal(tokens, 0)

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        return (*tokens_shape, self.embedding.vocabulary_size)

    def get_config(self) -> dict[str, Any]:
        block = self.blocks[0]
        # The mixers hold what `mixer_arguments` were.
        return {
            **super().get_config(),
            "vocabulary_size": self.embedding.vocabulary_size,
            "mixer": serialize_mixers(self.blocks),
            "width": self.embedding.width,
            "num_blocks": self.num_blocks,
            "num_heads": self.num_heads,
            "feed_forward_dim": block.feed_forward_dim,
            "kernel_sizes": self.kernel_sizes,
            "dropout": block.dropout,
            "norm_first": block.norm_first,
            "positions": self.embedding.positions,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**deserialize_mixers(config, "mixer"))


def make_final_norm(model: Any, norm_first: bool, name: str) -> Any:
    """The norm after the last block, where blocks do not end with one."""
    if not norm_first:
        return None
    return keras.layers.LayerNormalization(
        epsilon=1e-5, name=name, dtype=model.dtype_policy
    )


def run_blocks(
    blocks: Any,
    x: Tensor,
    mask: Tensor | None,
    cache: Any,
    training: bool | None,
    arguments: Any = None,
) -> Any:
    """Call blocks one after the other; return the output and their caches.

    Args:
        blocks: List of blocks.
        x: Tensor `(batch, time, width)`.
        mask: Booleans `(batch, time)`, or `None`.
        cache: What `make_cache` returned, or `None`.
        training: Boolean, whether dropout is applied.
        arguments: Dictionary of further arguments for each block, or `None`.
    """
    caches = [None] * len(blocks) if cache is None else cache["blocks"]
    arguments = [{}] * len(blocks) if arguments is None else arguments
    following = []
    for block, own, more in zip(blocks, caches, arguments, strict=True):
        x = block(x, mask=mask, cache=own, training=training, **more)
        if own is not None:
            x, own = x
        following.append(own)
    return x, following


def make_cache(blocks: Any, batch_size: int, max_length: int) -> Any:
    """A model's cache: the position that comes next, the blocks' caches."""
    return {
        "position": ops.zeros((batch_size,), dtype="int32"),
        "blocks": [
            block.initial_cache(batch_size, max_length) for block in blocks
        ],
    }


def next_cache(tokens: Tensor, cache: Any, caches: Any) -> Any:
    """The cache after a step."""
    position = cache["position"] + ops.shape(tokens)[1]
    return {"position": position, "blocks": caches}


def serialize_mixers(blocks: Any) -> Any:
    return [serialize_layer(block.mixer) for block in blocks]


def deserialize_mixers(config: Any, *keys: Any) -> Any:
    """Make layers of the mixers of a config."""
    return {
        name: [keras.saving.deserialize_keras_object(layer) for layer in value]
        if name in keys
        else value
        for name, value in config.items()
    }
