"""What the convolutions with shared, normalized filters have in common."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.precision import to_float
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.head_convolution import dynamic_convolution
from keras_attention.ops.sequence.head_convolution import (
    lightweight_convolution,
)
from keras_attention.ops.sequence.head_convolution import pad_widths
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability
from keras_attention.validation import check_seed
from keras_attention.validation import check_sequence_rank
from keras_attention.validation import check_sequence_shape
from keras_attention.validation import check_shape

# Logits of taps that fall outside. Finite, so that a position whose taps all
# do has equal weights, which are then set to zero, and no NaN.
OUTSIDE = -1e30


class BaseHeadConvolution(WeightedLayer):
    """Base of `LightweightConv1D` and `DynamicConv1D`.

    A subclass makes the logits of its filters and hands them to
    `apply_filters`. Padding, masks, the softmax, dropout, the bias and
    decoding are here. The arguments are described in the subclasses.
    """

    def __init__(
        self,
        num_heads: int,
        kernel_size: int,
        causal: bool = False,
        weight_softmax: bool = True,
        weight_dropout: float = 0.0,
        shared_dropout: bool = True,
        renormalize_padding: bool = False,
        use_bias: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.kernel_size = check_positive_integer("kernel_size", kernel_size)
        self.causal = check_boolean("causal", causal)
        self.weight_softmax = check_boolean("weight_softmax", weight_softmax)
        self.weight_dropout = check_probability(
            "weight_dropout", weight_dropout
        )
        self.shared_dropout = check_boolean("shared_dropout", shared_dropout)
        self.renormalize_padding = check_boolean(
            "renormalize_padding", renormalize_padding
        )
        if renormalize_padding and not weight_softmax:
            raise ValueError(
                "`renormalize_padding` is a property of the softmax, and "
                "needs `weight_softmax=True`. Received: "
                "renormalize_padding=True, weight_softmax=False"
            )
        self.use_bias = check_boolean("use_bias", use_bias)
        self.seed = check_seed(seed)
        if self.weight_dropout:
            self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    def build_channels(self, input_shape: Shape) -> None:
        """Check the shape of the input; make the bias."""
        channels = check_sequence_shape(self, input_shape)
        if channels % self.num_heads:
            raise ValueError(
                f"{type(self).__name__} needs a number of channels that is a "
                "multiple of `num_heads`: a head is a block of channels. "
                f"Received: num_heads={self.num_heads} for {channels} "
                f"channels in layer '{self.name}'"
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: channels})
        self.channels = channels
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(channels,),
                initializer=clone_initializer(self.bias_initializer),
                regularizer=self.bias_regularizer,
                name="bias",
            )

    def prepare(self, inputs: Tensor, mask: Tensor | None, cache: Cache | None):
        """Check a call's tensors; replace what is masked by zeros.

        Args:
            inputs: Tensor of shape `(B, T, D)`.
            mask: `None`, or booleans of shape `(B, T)`.
            cache: `None`, or what the step before returned.

        Returns:
            Inputs and mask.
        """
        mask = self._check_call(inputs, mask, cache)
        inputs = to_float(inputs, self.compute_dtype)
        if mask is not None:
            inputs = replace_masked(inputs, mask)
        return inputs, mask

    def apply_filters(
        self,
        inputs: Tensor,
        logits: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
        training: bool | None,
    ) -> Any:
        """Convolve `inputs` with the filters of these logits.

        Args:
            inputs: Tensor of shape `(B, T, D)`, zero where it is masked.
            logits: Tensor of shape `(H, K)`, or `(B, T, H, K)`.
            mask: `None`, or booleans of shape `(B, T)`.
            cache: `None`, or what the step before returned.
            training: Whether weights are dropped.

        Returns:
            The output, and with a cache also the next cache.
        """
        batch, length = ops.shape(inputs)[:2]
        if mask is None and (self.renormalize_padding or cache is not None):
            mask = ops.ones((batch, length), dtype="bool")
        padding = "causal" if self.causal else "same"
        if cache is not None:
            inputs, mask, cache = self._extend(inputs, mask, cache)
            padding = "valid"
        filters = self.compute_filters(logits, mask, padding)
        if training and self.weight_dropout:
            filters = self._drop(filters, batch, length)
        is_shared = len(filters.shape) == 2
        convolve = lightweight_convolution if is_shared else dynamic_convolution
        y = convolve(inputs, filters, padding)  # [B, T, D]
        if self.use_bias:
            y = y + ops.cast(self.bias, y.dtype)
        return y if cache is None else (y, cache)

    def compute_filters(
        self, logits: Tensor, mask: Tensor | None = None, padding: str = "same"
    ) -> Any:
        """Return the filters of logits, before any dropout.

        Args:
            logits: tensor of shape `(H, K)`, or `(B, T, H, K)`.
            mask: with `renormalize_padding`, booleans of shape `(B, T)`: the
                softmax is then over the taps inside the sequence alone.
                `None` for filters that are inside wholly.
            padding: of the convolution.

        Returns:
            Filters of the logits' shape; `(B, T, H, K)` if a mask makes them
            differ by position.
        """
        if not self.weight_softmax:
            return logits
        logits = widen(logits)
        if not self.renormalize_padding or mask is None:
            return _softmax(logits)
        inside = _taps_inside(mask, self.kernel_size, padding)  # [B, T, 1, K]
        filters = _softmax(ops.where(inside, logits, OUTSIDE))
        return ops.where(inside, filters, 0)  # [B, T, H, K]

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> Cache:
        """Return the cache with which decoding starts.

        Decoding keeps the last `kernel_size - 1` inputs, whatever the length:

            cache = layer.initial_cache(batch_size)
            output, cache = layer(prompt, mask=mask, cache=cache)
            output, cache = layer(token, cache=cache)

        A step takes one token or several. Masked tokens keep their place, so
        steps of any size equal one call on the whole sequence.

        Args:
            batch_size: number of sequences.
            max_length: longest sequence that will be decoded, which the
                layers of attention must know. Here the cache has one size,
                and no length is too long.

        Returns:
            Dictionary of the tensors `inputs`, `(batch_size, K - 1, D)`, and
            `mask`, booleans of shape `(batch_size, K - 1)`: which of them
            belong to the sequence.

        Raises:
            ValueError: if the layer is not built, or not causal.
        """
        self._check_causal()
        if isinstance(batch_size, int):
            check_positive_integer("batch_size", batch_size)
        if max_length is not None:
            check_positive_integer("max_length", max_length)
        if not self.built:
            raise ValueError(
                "The cache has the layer's number of channels, which is not "
                f"known before layer '{self.name}' is built. Call the layer, "
                "or its `build`, first."
            )
        kept = self.kernel_size - 1
        return {
            "inputs": ops.zeros(
                (batch_size, kept, self.channels), dtype=self.compute_dtype
            ),
            "mask": ops.zeros((batch_size, kept), dtype="bool"),
        }

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return check_sequence_rank(self, input_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
        **arguments: Any,
    ) -> Any:
        mask = inputs_mask if mask is None else mask
        self._check_call(inputs, mask, cache)
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if cache is None:
            return output
        return output, keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), cache
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "kernel_size": self.kernel_size,
            "causal": self.causal,
            "weight_softmax": self.weight_softmax,
            "weight_dropout": self.weight_dropout,
            "shared_dropout": self.shared_dropout,
            "renormalize_padding": self.renormalize_padding,
            "use_bias": self.use_bias,
            "seed": self.seed,
        }

    def _drop(self, filters, batch, length):
        """Leave out weights, the same everywhere or others at each position."""
        shape = (self.num_heads, self.kernel_size)
        if not self.shared_dropout:
            shape = (batch, length, *shape)
        keep = keras.random.dropout(
            ops.ones(shape, dtype=filters.dtype),
            self.weight_dropout,
            seed=self.seed_generator,
        )
        return filters * keep

    def _extend(self, inputs, mask, cache):
        """Put the cache before a step's inputs; return the next cache too.

        That is the last K - 1 inputs.
        """
        length = ops.shape(inputs)[1]
        inputs = ops.concatenate([cache["inputs"], inputs], axis=1)
        mask = ops.concatenate([cache["mask"], mask], axis=1)
        cache = {"inputs": inputs[:, length:], "mask": mask[:, length:]}
        return inputs, mask, cache

    def _check_call(self, inputs, mask, cache):
        """Check tensors or symbolic tensors; return the boolean mask."""
        if mask is not None:
            mask = to_boolean_mask("mask", mask)
            check_sequence_mask("mask", mask, inputs.shape)
        if cache is not None:
            self._check_cache(inputs, cache)
        return mask

    def _check_causal(self):
        if not self.causal:
            raise ValueError(
                f"Decoding with a cache needs a causal {type(self).__name__}: "
                "others look ahead at tokens that are not there yet. "
                f"Received: causal=False for layer '{self.name}'"
            )

    def _check_cache(self, inputs, cache):
        self._check_causal()
        if not isinstance(cache, dict) or set(cache) != {"inputs", "mask"}:
            raise ValueError(
                "`cache` must be what `initial_cache` or the step before "
                "returned, a dictionary of 'inputs' and 'mask'. "
                f"Received: cache={cache!r} for layer '{self.name}'"
            )
        batch, _, channels = inputs.shape
        kept = self.kernel_size - 1
        expected = {"inputs": (batch, kept, channels), "mask": (batch, kept)}
        for key, shape in expected.items():
            check_shape(f"cache['{key}']", cache[key].shape, shape, self)


def _softmax(logits):
    if logits.shape[-1] == 1:
        # Keras warns of a softmax of one number. A filter may have one tap.
        return ops.exp(ops.log_softmax(logits, axis=-1))
    return ops.softmax(logits, axis=-1)


def _taps_inside(mask, kernel_size, padding):
    """Which taps fall on the sequence: booleans `(B, T, 1, K)`."""
    pads = pad_widths(kernel_size, padding)
    mask = ops.pad(ops.cast(mask, "int32"), [(0, 0), pads])
    taps = [
        mask[:, tap : tap - kernel_size + 1 or None]
        for tap in range(kernel_size)
    ]
    inside = ops.cast(ops.stack(taps, axis=-1), "bool")  # [B, T, K]
    return ops.expand_dims(inside, 2)
