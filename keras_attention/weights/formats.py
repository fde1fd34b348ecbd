"""How published weights are named and laid out, for each layer of ours.

A `Format` says for each weight of a layer which arrays it is made of. The
name of a weight is the end of its path in the layer; the name of an array is
that in the source, after the prefix.
"""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np

from keras_attention.layers.sequence.dynamic_conv_1d import DynamicConv1D
from keras_attention.layers.sequence.lightweight_conv_1d import (
    LightweightConv1D,
)
from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention,
)
from keras_attention.layers.vision.cbam import CBAM
from keras_attention.layers.vision.channel_attention import ChannelAttention
from keras_attention.layers.vision.efficient_channel_attention import (
    EfficientChannelAttention,
)
from keras_attention.layers.vision.spatial_attention import SpatialAttention
from keras_attention.layers.vision.squeeze_excite import SqueezeExcite


@dataclass(frozen=True)
class Entry:
    """A weight made of arrays: `convert(*arrays)`.

    Without its arrays, an optional one is filled with zeros: a layer with a
    bias of zeros is one without.
    """

    keys: tuple[str, ...]
    convert: Callable[..., np.ndarray]
    optional: bool = False


@dataclass(frozen=True)
class Format:
    """One published way to write a layer's weights."""

    entries: Mapping[str, Entry]

    def within(self, weights: str, keys: str) -> dict[str, Entry]:
        """Return the entries of a layer and module inside others."""
        return {
            weights + name: Entry(
                tuple(keys + key for key in entry.keys),
                entry.convert,
                entry.optional,
            )
            for name, entry in self.entries.items()
        }


def matrix(*keys: str) -> Entry:
    """Columns, side by side, of matrices `(outputs, inputs)` of torch.

    Convolutions of one position, `(outputs, inputs, 1, 1)`, are such too.
    """
    return Entry(
        keys,
        lambda *parts: np.concatenate(
            [part.reshape(len(part), -1).T for part in parts], axis=-1
        ),
    )


def vector(*keys: str) -> Entry:
    """Biases, one after the other."""
    return Entry(
        keys,
        lambda *parts: np.concatenate([part.ravel() for part in parts]),
        optional=True,
    )


def as_is(*keys: str) -> Entry:
    return Entry(keys, lambda array: array)


def filters(key: str, flipped: bool = False) -> Entry:
    """Filters `(outputs, inputs, height, width)` of torch.

    Args:
        key: name of the array.
        flipped: whether the inputs are in the other order.
    """
    step = -1 if flipped else 1
    return Entry((key,), lambda x: x[:, ::step].transpose(2, 3, 1, 0))


def columns(*keys: str, inputs: int = 1) -> Entry:
    """Kernels of Keras' einsum layers: the first axes are the inputs'."""
    return Entry(
        keys,
        lambda *parts: np.concatenate(
            [
                part.reshape(int(np.prod(part.shape[:inputs])), -1)
                for part in parts
            ],
            axis=-1,
        ),
    )


NORMALIZATION = Format(
    {
        "gamma": as_is("weight"),
        "beta": as_is("bias"),
        "moving_mean": as_is("running_mean"),
        "moving_variance": as_is("running_var"),
    }
)


def two_dense(first: str, second: str) -> Format:
    return Format(
        {
            "reduce/kernel": matrix(f"{first}.weight"),
            "reduce/bias": vector(f"{first}.bias"),
            "expand/kernel": matrix(f"{second}.weight"),
            "expand/bias": vector(f"{second}.bias"),
        }
    )


def attention(query: str, key: str, value: str, output: str) -> Format:
    """Three modules of torch for the projections, and one for the output."""
    names = (query, key, value)
    entries = {
        "query_key_value_kernel": matrix(*(f"{n}.weight" for n in names)),
        "query_key_value_bias": vector(*(f"{n}.bias" for n in names)),
        "output_kernel": matrix(f"{output}.weight"),
        "output_bias": vector(f"{output}.bias"),
    }
    for ours, theirs in zip(("query", "key", "value"), names, strict=True):
        entries[f"{ours}_kernel"] = matrix(f"{theirs}.weight")
        entries[f"{ours}_bias"] = vector(f"{theirs}.bias")
    return Format(entries)


def torch_attention() -> Format:
    """Torch's own layer: one array of weights, or three, and one of biases."""
    entries = {
        "query_key_value_kernel": matrix("in_proj_weight"),
        "query_key_value_bias": vector("in_proj_bias"),
        "output_kernel": matrix("out_proj.weight"),
        "output_bias": vector("out_proj.bias"),
    }
    for number, name in enumerate(("query", "key", "value")):
        entries[f"{name}_kernel"] = matrix(f"{name[0]}_proj_weight")
        entries[f"{name}_bias"] = Entry(
            ("in_proj_bias",), partial(_third, number), optional=True
        )
    return Format(entries)


def keras_attention() -> Format:
    """Keras' MultiHeadAttention and GroupQueryAttention."""
    names = ("query", "key", "value")
    theirs = [f"_{name}_dense" for name in names]
    entries = {
        "query_key_value_kernel": columns(*(f"{n}.kernel" for n in theirs)),
        "query_key_value_bias": vector(*(f"{n}.bias" for n in theirs)),
        "output_kernel": columns("_output_dense.kernel", inputs=2),
        "output_bias": vector("_output_dense.bias"),
    }
    for ours, name in zip(names, theirs, strict=True):
        entries[f"{ours}_kernel"] = columns(f"{name}.kernel")
        entries[f"{ours}_bias"] = vector(f"{name}.bias")
    return Format(entries)


def _third(number, array):
    return np.split(array, 3)[number]


def _positions(convolution, norm, flipped=False):
    kernel = filters(f"{convolution}.weight", flipped)
    return Format(
        {
            "convolution/kernel": kernel,
            **NORMALIZATION.within("norm/", f"{norm}."),
        }
    )


def _cbam(channel, channel_key, spatial, spatial_key):
    return Format(
        {
            **channel.within("channel_attention/", channel_key),
            **spatial.within("spatial_attention/", spatial_key),
        }
    )


TORCH_CHANNELS = two_dense("mlp.1", "mlp.3")
TIMM_CHANNELS = two_dense("fc1", "fc2")
TORCH_POSITIONS = _positions("spatial.conv", "spatial.bn")
# It has the mean first, then the largest value.
TIMM_POSITIONS = _positions("conv.conv", "conv.bn", flipped=True)

FORMATS: dict[type, tuple[Format, ...]] = {
    SqueezeExcite: (
        two_dense("fc1", "fc2"),
        two_dense("conv_reduce", "conv_expand"),
        two_dense("fc.0", "fc.2"),
        Format(  # KerasCV's SqueezeAndExcite2D
            {
                "reduce/kernel": columns("squeeze_conv.kernel", inputs=3),
                "reduce/bias": vector("squeeze_conv.bias"),
                "expand/kernel": columns("excite_conv.kernel", inputs=3),
                "expand/bias": vector("excite_conv.bias"),
            }
        ),
    ),
    EfficientChannelAttention: (
        Format(
            {
                "excite/kernel": Entry(
                    ("conv.weight",),
                    # One filter for all channels, or a column for each.
                    lambda x: x.transpose(2, 1, 0)[:, 0 if len(x) > 1 else ...],
                )
            }
        ),
    ),
    ChannelAttention: (TORCH_CHANNELS, TIMM_CHANNELS),
    SpatialAttention: (TORCH_POSITIONS, TIMM_POSITIONS),
    CBAM: (
        _cbam(TORCH_CHANNELS, "ChannelGate.", TORCH_POSITIONS, "SpatialGate."),
        _cbam(TIMM_CHANNELS, "channel.", TIMM_POSITIONS, "spatial."),
    ),
    MultiHeadAttention: (
        torch_attention(),
        attention("self.query", "self.key", "self.value", "output.dense"),
        attention("q_lin", "k_lin", "v_lin", "out_lin"),
        attention("q_proj", "k_proj", "v_proj", "out_proj"),
        Format(  # timm's vision transformers
            {
                "query_key_value_kernel": matrix("qkv.weight"),
                "query_key_value_bias": vector("qkv.bias"),
                "output_kernel": matrix("proj.weight"),
                "output_bias": vector("proj.bias"),
            }
        ),
        keras_attention(),
    ),
    LightweightConv1D: (
        Format(
            {
                "kernel": Entry(("weight",), lambda x: x[:, 0]),
                "bias": vector("bias"),
            }
        ),
    ),
    DynamicConv1D: (
        Format(
            {
                "filters/kernel": matrix("weight_linear.weight"),
                "filters/bias": vector("weight_linear.bias"),
                "bias": vector("conv_bias"),
            }
        ),
    ),
    keras.layers.Conv2D: (
        Format({"kernel": filters("weight"), "bias": vector("bias")}),
    ),
    keras.layers.BatchNormalization: (NORMALIZATION,),
    keras.layers.Dense: (
        Format({"kernel": matrix("weight"), "bias": vector("bias")}),
    ),
}
