"""What a block mixes positions with: by name, or any layer of the user's."""

import inspect
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers import GatedConvolutionBlock
from keras_attention.layers import MultiHeadAttention
from keras_attention.models.transformer.convolution_mixer import (
    ConvolutionMixer,
)
from keras_attention.models.transformer.recurrent_mixer import RecurrentMixer
from keras_attention.types import DTypeLike
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

MIXERS = ("attention", "lightweight", "dynamic", "convolution", "lstm")
# The filters grow with the height of the block, in the paper's decoder; its
# encoder has one more block of 31.
KERNEL_SIZES = (3, 7, 15, 31)

Mixer = str | Callable[[], keras.layers.Layer]


def make_mixers(
    mixer: Mixer | Sequence[keras.layers.Layer],
    count: int,
    causal: bool,
    num_heads: int,
    kernel_sizes: Sequence[int] | None = None,
    arguments: dict[str, Any] | None = None,
    dtype: DTypeLike = None,
) -> list[keras.layers.Layer]:
    """Return one new mixer for each block.

    Args:
        mixer: `"attention"`, `"lightweight"`, `"dynamic"`, `"convolution"` or
            `"lstm"`; a class or function that returns a new layer when it is
            called without arguments; or the layers themselves.
        count: number of blocks.
        causal: whether a named mixer sees no later position. A layer of the
            user's sees what it sees.
        num_heads: Number of heads of attention and of the convolutions by
            heads.
        kernel_sizes: Kernel sizes of the convolutions, one for each block;
            `None` is 3, 7, 15, 31, 31, ...
        arguments: more arguments of a named mixer's layer.
        dtype: dtype or dtype policy of a named mixer.

    Raises:
        TypeError: If something else than new layers comes out.
        ValueError: for an unknown name, other numbers of kernel sizes or
            layers, or arguments for layers that are not made here.
    """
    check_positive_integer("num_heads", num_heads)
    arguments = dict(arguments or {})
    if isinstance(mixer, str):
        check_choice("mixer", mixer, MIXERS)
        sizes = _kernel_sizes(kernel_sizes, count)
        common = {"causal": causal, "dtype": dtype, "name": "mixer"}
        return [
            _make(mixer, num_heads, size, {**common, **arguments})
            for size in sizes
        ]
    if arguments:
        raise ValueError(
            "`mixer_arguments` are those of a mixer that is named. Received: "
            f"mixer_arguments={arguments} with mixer={mixer!r}"
        )
    layers = [mixer() for _ in range(count)] if callable(mixer) else list(mixer)
    if len(layers) != count:
        raise ValueError(
            f"There must be one mixer for each of the {count} blocks. "
            f"Received: {len(layers)} layers"
        )
    are_layers = all(isinstance(x, keras.layers.Layer) for x in layers)
    if not are_layers or len({id(layer) for layer in layers}) < count:
        raise TypeError(
            "`mixer` must be a name, or be called without arguments and "
            "return a new keras layer each time. Received: "
            f"mixer={mixer!r}, which gave {layers}"
        )
    return layers


def mix(
    layer: Any,
    x: Tensor,
    mask: Tensor | None = None,
    cache: Any = None,
    training: bool | None = None,
) -> Any:
    """Call a mixer with what it takes of mask and training mode.

    A layer that knows no mask gets zeros in the padding.

    Returns:
        The output, and with a cache the next cache too.
    """
    arguments = {}
    if cache is not None:
        arguments["cache"] = cache
    if mask is not None:
        if _takes(layer, "mask"):
            arguments["mask"] = mask
        else:
            zero = ops.zeros((), dtype=x.dtype)
            x = ops.where(ops.expand_dims(mask, -1), x, zero)
    if _takes(layer, "training"):
        arguments["training"] = training
    return layer(x, **arguments)


def has_cache(layer: keras.layers.Layer) -> bool:
    """Whether a mixer decodes step by step."""
    return hasattr(layer, "initial_cache")


def serialize_layer(layer: keras.layers.Layer) -> dict[str, Any]:
    """The same before and after the layer is built, unlike Keras' own."""
    serialized = keras.saving.serialize_keras_object(layer)
    serialized.pop("build_config", None)
    return serialized


def _make(mixer, num_heads, kernel_size, arguments):
    if mixer == "attention":
        return MultiHeadAttention(num_heads, **arguments)
    if mixer == "lstm":
        return RecurrentMixer(**arguments)
    if mixer == "convolution":
        return ConvolutionMixer(kernel_size, **arguments)
    return GatedConvolutionBlock(num_heads, kernel_size, mixer, **arguments)


def _kernel_sizes(kernel_sizes, count):
    if kernel_sizes is None:
        sizes = [*KERNEL_SIZES, *KERNEL_SIZES[-1:] * count]
        return sizes[:count]
    if len(kernel_sizes) != count:
        raise ValueError(
            "`kernel_sizes` must have one size for each block. Received: "
            f"kernel_sizes={tuple(kernel_sizes)} for {count} blocks"
        )
    return list(kernel_sizes)


def _takes(layer, name):
    return name in inspect.signature(layer.call).parameters
