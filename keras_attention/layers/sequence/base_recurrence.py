"""What the layers of linear recurrences share: masks, caches, projections."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.base_layer import BaseLayer
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.precision import to_float
from keras_attention.ops.precision import widen
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_sequence_rank
from keras_attention.validation import check_sequence_shape


class BaseRecurrence(BaseLayer):
    """Base of the layers whose memory is a matrix for each head.

    A subclass also derives from `KernelLayer`. It implements `build_weights`,
    `mix` and `cache_shapes`.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of a head's queries and keys, or `None`.
        value_dim: Integer, width E of a head's values, or `None`.
        **kwargs: Passed on to the next class.
    """

    causal: bool

    def __init__(
        self,
        num_heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_optional_integer("key_dim", key_dim)
        self.value_dim = check_optional_integer("value_dim", value_dim)

    def build_weights(self, channels: int) -> None:
        """Make the weights for inputs of this width."""
        raise NotImplementedError

    def mix(
        self, inputs: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> tuple[Any, Any]:
        """Return the output and the next cache.

        Args:
            inputs: Tensor of shape `(B, T, D)`, zero where it is masked.
            mask: Booleans of shape `(B, T)`, or `None`.
            cache: What the step before returned, or `None` for the start.
        """
        raise NotImplementedError

    def cache_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shapes, without the batch, and dtypes of a cache's tensors."""
        raise NotImplementedError

    def default_head_dims(self, channels: int) -> tuple[int, int]:
        """Widths of a head's keys and values where they are not given."""
        width = self.key_dim or max(channels // self.num_heads, 1)
        return width, self.value_dim or width

    def build(self, input_shape: Shape) -> None:
        channels = check_sequence_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: channels})
        self._head_dims = self.default_head_dims(channels)
        if None in (self.key_dim, self.value_dim):
            self._check_divides(channels)
        self.build_weights(channels)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Any:
        # Keras sets `inputs_mask`, not `mask`, if there is also a cache.
        mask = inputs_mask if mask is None else mask
        mask = self._check_call(inputs, mask, cache)
        inputs = to_float(inputs, self.compute_dtype)
        if mask is not None:
            inputs = replace_masked(inputs, mask)
        output, next_cache = self.mix(inputs, mask, cache)
        output = ops.cast(output, self.compute_dtype)
        return output if cache is None else (output, next_cache)

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> Cache:
        """Returns the cache with which decoding starts.

        Its size does not depend on the length:

            cache = layer.initial_cache(batch_size)
            output, cache = layer(prompt, mask=mask, cache=cache)
            output, cache = layer(token, cache=cache)

        A step takes one token or several, and steps of any size equal one
        call on the whole sequence.

        Args:
            batch_size: Integer, rows of the batch.
            max_length: Integer, longest sequence that will be decoded, which
                the layers of attention must know. Here no length is too
                long. Defaults to `None`.

        Returns:
            A dictionary of tensors for the layer's `cache` argument.

        Raises:
            ValueError: If the layer is not built, or not causal.
        """
        self._check_causal()
        if isinstance(batch_size, int):
            check_positive_integer("batch_size", batch_size)
        if max_length is not None:
            check_positive_integer("max_length", max_length)
        if not self.built:
            raise ValueError(
                "The cache's widths are known once the layer is built. "
                f"Received: layer '{self.name}', not built. Call "
                "`layer.build(shape)`, or the layer, first."
            )
        return {
            name: ops.zeros((batch_size, *shape), dtype)
            for name, (shape, dtype) in self.cache_shapes().items()
        }

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return check_sequence_rank(self, input_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Any:
        mask = inputs_mask if mask is None else mask
        self._check_call(inputs, mask, cache)
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if cache is None:
            return output
        return output, {
            name: keras.KerasTensor(x.shape, dtype=x.dtype)
            for name, x in cache.items()
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
        }

    @property
    def state_dtype(self) -> str:
        """Dtype of the state: at least float32."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def add_projection(
        self, name: str, channels: int, units: int, **arguments: Any
    ) -> Any:
        """Make a dense layer with the kernel arguments of this layer."""
        layer = keras.layers.Dense(
            units,
            **{"use_bias": False, **self.sublayer_arguments(name), **arguments},
        )
        layer.build((None, None, channels))
        return layer

    def split_heads(self, x: Tensor, width: int, inputs: Tensor) -> Any:
        """`(B, T, N * width)` to `(B, T, N, width)`.

        Batch and length are taken from `inputs`: converters to ONNX take a
        wrong shape for that of a dense layer's output. On torch, that of a
        layer in float64 may be float32.
        """
        x = ops.cast(x, self.compute_dtype)
        batch, length, _ = ops.shape(inputs)
        return ops.reshape(x, (batch, length, self.num_heads, width))

    def join_heads(self, x: Tensor) -> Any:
        """`(B, T, N, width)` to `(B, T, N * width)`."""
        batch, length, heads, width = ops.shape(x)
        return ops.reshape(x, (batch, length, heads * width))

    def _check_divides(self, channels):
        if channels % self.num_heads:
            raise ValueError(
                "Without `key_dim` and `value_dim` the input's width must be "
                f"a multiple of `num_heads`. Received: num_heads="
                f"{self.num_heads} for a width of {channels} in layer "
                f"'{self.name}'"
            )

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
                "Decoding step by step equals the full pass only if no token "
                "attends to a later one. Received: causal=False in layer "
                f"'{self.name}'. Make the layer with `causal=True`."
            )

    def _check_cache(self, inputs, cache):
        self._check_causal()
        expected = self.cache_shapes()
        if not isinstance(cache, dict) or set(cache) != set(expected):
            raise ValueError(
                "`cache` must be what `initial_cache` or the step before "
                f"returned, a dictionary of {', '.join(map(repr, expected))}. "
                f"Received: cache of type {type(cache).__name__}"
                f"{sorted(cache) if isinstance(cache, dict) else ''} for layer "
                f"'{self.name}'"
            )
        for name, (shape, _) in expected.items():
            found, wanted = tuple(cache[name].shape), (inputs.shape[0], *shape)
            fits = len(found) == len(wanted) and all(
                None in pair or pair[0] == pair[1]
                for pair in zip(found, wanted, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"`cache` is of another layer or batch: its '{name}' must "
                    f"have the shape {wanted}. Received: cache['{name}'] of "
                    f"shape {found}. Make it with the `initial_cache` of "
                    f"layer '{self.name}'."
                )


def rms_normalize(x: Tensor, epsilon: float, scale: Any = None) -> Any:
    """Divide by the root of the mean square over the last axis, in float32.

    Args:
        x: Tensor.
        epsilon: Float, added to the mean square.
        scale: Tensor of the last axis, a factor, or `None`.
    """
    x = widen(x)
    square = ops.mean(ops.square(x), axis=-1, keepdims=True)
    x = x * ops.rsqrt(square + epsilon)
    return x if scale is None else x * ops.cast(scale, x.dtype)
