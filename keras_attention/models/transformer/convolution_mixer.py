from typing import Any

import keras
from keras import ops

from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import replace_masked_tokens
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_sequence_shape
from keras_attention.validation import check_shape


@keras.saving.register_keras_serializable(package="keras_attention")
class ConvolutionMixer(WeightedLayer):
    """Full convolution over time with a gate, as in convolutional networks
    for translation.

        a, b = split(convolution(x))       # [B, T, F] each
        y = a * sigmoid(b)                 # and to D channels, if F is not D

    Masked positions are replaced by zeros before it. It has 2·D·F·K + 2·F
    weights, and F·D + D more if F is not D.

    Args:
        kernel_size: K, number of positions on which an output depends.
        filters: F; `None` is the number of channels D.
        causal: whether an output depends on no later input.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: sequence tensor.
        mask: booleans of shape `(batch, time)`.
        cache: for decoding with a causal layer: what `initial_cache`, or the
            step before, returned. The call then also returns the next cache.

    Input shape:
        `(batch, time, channels)`. Batch and time may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Gehring et al., Convolutional Sequence to Sequence Learning,
        ICML 2017, arXiv:1705.03122, section 3.2.

    Example:

    >>> from keras_attention.models.transformer import ConvolutionMixer
    >>> layer = ConvolutionMixer(3, causal=True)
    >>> tuple(layer(np.ones((2, 7, 16), "float32")).shape)
    (2, 7, 16)
    >>> layer.count_params()  # 2 * 16 * 16 * 3 + 2 * 16
    1568
    """

    def __init__(
        self,
        kernel_size: int,
        filters: int | None = None,
        causal: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_size = check_positive_integer("kernel_size", kernel_size)
        self.filters = check_optional_integer("filters", filters)
        self.causal = check_boolean("causal", causal)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        width = check_sequence_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: width})
        self.width = width
        filters = self.filters or width
        self.convolution = keras.layers.Conv1D(
            2 * filters,
            self.kernel_size,
            **self.sublayer_arguments(name="convolution"),
        )
        self.convolution.build((None, None, width))
        if filters != width:
            self.project = keras.layers.Dense(
                width, **self.sublayer_arguments(name="project")
            )
            self.project.build((None, None, filters))

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Any:
        # Keras sets `inputs_mask`, not `mask`, if there is also a cache.
        mask = inputs_mask if mask is None else mask
        x, _ = replace_masked_tokens(inputs, mask)
        if cache is not None:
            check_mixer_cache(self, cache, x.shape)
        if 0 in x.shape[:2]:
            return x if cache is None else (x, cache)
        kept = self.kernel_size - 1
        if cache is None:
            before = kept if self.causal else kept // 2
            x = ops.pad(x, ((0, 0), (before, kept - before), (0, 0)))
        else:
            x = ops.concatenate([cache["inputs"], x], axis=1)
            cache = {"inputs": x[:, ops.shape(x)[1] - kept :]}
        batch, length = ops.shape(x)[0], ops.shape(x)[1] - kept
        if ops.is_tensor(length):
            # TensorFlow's convolution makes something of nothing: a sequence
            # that turns out to be empty gets a position, which is cut off.
            more = ops.maximum(1 - length, 0)
            x = ops.pad(x, ((0, 0), (0, more), (0, 0)))
        x = self.convolution(x)[:, :length]
        x = ops.reshape(x, (batch, length, self.convolution.filters))
        x = keras.activations.glu(x)
        if self.filters not in (None, self.width):
            x = self.project(x)
        return x if cache is None else (x, cache)

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> Cache:
        """Return the cache with which decoding starts: the inputs before.

        Args:
            batch_size: number of sequences.
            max_length: not needed; the cache has one size.

        Raises:
            ValueError: If the layer is not causal or not built.
        """
        return zero_cache(self, batch_size)

    def cache_shapes(self, batch_size: int | None) -> dict[str, Shape]:
        """Shapes of the cache's tensors."""
        return {"inputs": (batch_size, self.kernel_size - 1, self.width)}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        **arguments: Any,
    ) -> Any:
        return output_spec(self, inputs, mask, cache)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "filters": self.filters,
            "causal": self.causal,
        }


def zero_cache(layer: Any, batch_size: int) -> Cache:
    """The cache with which a mixer starts to decode.

    Raises:
        ValueError: unless the mixer is causal and built.
    """
    _check_decodes(layer)
    if isinstance(batch_size, int):
        check_positive_integer("batch_size", batch_size)
    return {
        name: ops.zeros(shape, dtype=layer.compute_dtype)
        for name, shape in layer.cache_shapes(batch_size).items()
    }


def check_mixer_cache(layer: Any, cache: Any, input_shape: Shape) -> None:
    """Raise a `ValueError` unless a cache is the mixer's, for this batch."""
    _check_decodes(layer)
    expected = layer.cache_shapes(input_shape[0])
    if not isinstance(cache, dict) or set(cache) != set(expected):
        raise ValueError(
            "`cache` must be what `initial_cache` or the step before "
            f"returned, a dictionary of {sorted(expected)}. Received: "
            f"cache={cache!r} for layer '{layer.name}'"
        )
    for name, shape in expected.items():
        check_shape(f"cache['{name}']", cache[name].shape, shape, layer)


def _check_decodes(layer):
    if not layer.causal or not layer.built:
        raise ValueError(
            "Decoding with a cache needs a causal layer that is built. "
            f"Received: causal={layer.causal}, built={layer.built} for layer "
            f"'{layer.name}'"
        )


def output_spec(
    layer: Any, inputs: Tensor, mask: Tensor | None, cache: Any
) -> Any:
    """What a mixer returns for symbolic inputs: its input's shape."""
    if mask is not None:
        check_sequence_mask("mask", to_boolean_mask("mask", mask), inputs.shape)
    if cache is not None and hasattr(layer, "cache_shapes"):
        check_mixer_cache(layer, cache, inputs.shape)
    output = keras.KerasTensor(inputs.shape, dtype=layer.compute_dtype)
    if cache is None:
        return output
    return output, keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, x.dtype), cache
    )
