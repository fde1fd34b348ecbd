"""How published weights are named and laid out, for each layer of ours.

A `Format` says for each weight of a layer which arrays it is made of. The
name of a weight is the end of its path in the layer; the name of an array is
that in the source, after the prefix.
"""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_attention.layers.sequence.dynamic_conv_1d import DynamicConv1D
from keras_attention.layers.sequence.lightweight_conv_1d import (
    LightweightConv1D,
)
from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention,
)
from keras_attention.layers.vision.bam import BAM
from keras_attention.layers.vision.cbam import CBAM
from keras_attention.layers.vision.channel_attention import ChannelAttention
from keras_attention.layers.vision.concurrent_squeeze_excite import (
    ConcurrentSqueezeExcite,
)
from keras_attention.layers.vision.coordinate_attention import (
    CoordinateAttention,
)
from keras_attention.layers.vision.effective_squeeze_excite import (
    EffectiveSqueezeExcite,
)
from keras_attention.layers.vision.efficient_channel_attention import (
    EfficientChannelAttention,
)
from keras_attention.layers.vision.gated_channel_transformation import (
    GatedChannelTransformation,
)
from keras_attention.layers.vision.global_context import GlobalContext
from keras_attention.layers.vision.non_local import NonLocal
from keras_attention.layers.vision.selective_kernel import SelectiveKernel
from keras_attention.layers.vision.spatial_attention import SpatialAttention
from keras_attention.layers.vision.spatial_squeeze_excite import (
    SpatialSqueezeExcite,
)
from keras_attention.layers.vision.squeeze_excite import SqueezeExcite
from keras_attention.layers.vision.triplet_attention import TripletAttention


@dataclass(frozen=True)
class Entry:
    """How a weight is made of arrays.

    Args:
        required: names of arrays that the source must have.
        optional: names of arrays that it may have.
        convert: function of these, in this order, with `None` for what is
            missing. It returns the weight, or `None` for zeros.
    """

    required: tuple[str, ...]
    convert: Callable[..., np.ndarray | None]
    optional: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return self.required + self.optional

    def within(self, module: str) -> "Entry":
        """Return the entry of a layer inside a module."""
        return Entry(
            tuple(module + key for key in self.required),
            self.convert,
            tuple(module + key for key in self.optional),
        )


@dataclass(frozen=True)
class Format:
    """One published form of a layer's weights.

    Args:
        entries: for each weight by name, what it is made of.
        without_effect: arrays that change no output.
        outside: arrays of modules that are not part of the layer.
        settings: attributes that the layer must have, which is what the form
            computes.
        origin: who publishes it, for errors about `settings`.
    """

    entries: Mapping[str, Entry]
    without_effect: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def within(self, weights: str, module: str) -> "Format":
        """Return the format of a layer and a module inside others."""
        return Format(
            {
                weights + name: entry.within(module)
                for name, entry in self.entries.items()
            },
            tuple(module + key for key in self.without_effect),
            tuple(module + key for key in self.outside),
            self.settings,
            self.origin,
        )

    def requiring(self, origin: str, **settings: Any) -> "Format":
        """Return a format that only layers of these attributes can read."""
        return replace(self, settings=settings, origin=origin)


def joined(*formats: Format) -> Format:
    """Return one format of several parts."""
    return Format(
        {name: e for form in formats for name, e in form.entries.items()},
        tuple(key for form in formats for key in form.without_effect),
        tuple(key for form in formats for key in form.outside),
    )


def matrix(*keys: str, scale: float = 1.0) -> Entry:
    """Columns, side by side, of matrices `(outputs, inputs)` of torch.

    Convolutions of one position, `(outputs, inputs, 1, 1)`, are such too.
    """
    return Entry(
        keys,
        lambda *parts: (
            scale
            * np.concatenate(
                [part.reshape(len(part), -1).T for part in parts], axis=-1
            )
        ),
    )


def vector(*keys: str, scale: float = 1.0) -> Entry:
    """One vector per channel, or zeros where the source has no bias."""

    def convert(*parts):
        if all(part is None for part in parts):
            return None
        return scale * np.concatenate([part.ravel() for part in parts])

    return Entry((), convert, keys)


def biases(*modules: str) -> Entry:
    """Biases of modules, one after the other; zeros for those without."""
    count = len(modules)

    def convert(*parts):
        weights, vectors = parts[:count], parts[count:]
        return np.concatenate(
            [
                np.zeros(len(weight)) if bias is None else bias.ravel()
                for weight, bias in zip(weights, vectors, strict=True)
            ]
        )

    return Entry(
        tuple(f"{module}.weight" for module in modules),
        convert,
        tuple(f"{module}.bias" for module in modules),
    )


def as_is(*keys: str) -> Entry:
    return Entry(keys, lambda array: array)


def ravelled(key: str) -> Entry:
    return Entry((key,), np.ravel)


def constant(value: float) -> Entry:
    """A value that the published layer has no weight for."""
    return Entry((), lambda: np.array([value]))


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
DENSE = Format({"kernel": matrix("weight"), "bias": vector("bias")})
CONVOLUTION = Format({"kernel": filters("weight"), "bias": vector("bias")})


def two_dense(first: str, second: str) -> Format:
    return joined(
        DENSE.within("reduce/", f"{first}."),
        DENSE.within("expand/", f"{second}."),
    )


def attention(query: str, key: str, value: str, output: str) -> Format:
    """Three modules of torch for the projections, and one for the output."""
    names = (query, key, value)
    entries = {
        "query_key_value_kernel": matrix(*(f"{n}.weight" for n in names)),
        "query_key_value_bias": biases(*names),
        "output_kernel": matrix(f"{output}.weight"),
        "output_bias": vector(f"{output}.bias"),
    }
    for ours, theirs in zip(("query", "key", "value"), names, strict=True):
        entries[f"{ours}_kernel"] = matrix(f"{theirs}.weight")
        entries[f"{ours}_bias"] = vector(f"{theirs}.bias")
    # BERT calls the normalization after it a part of attention.
    norm = ("output.LayerNorm.weight", "output.LayerNorm.bias")
    return Format(entries, outside=norm)


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
            (), partial(_third, number), ("in_proj_bias",)
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


def pooled_gate(
    convolution: str, norm: str | None, weights: str = "", flipped: bool = False
) -> Format:
    """A convolution over maximum and mean, with or without normalization.

    Ours always normalizes. Where the source does not, statistics of mean 0
    and variance 1 make it the identity at inference.

    Args:
        convolution: module of the convolution.
        norm: module of the batch normalization, or `None`.
        weights: what comes before `norm` and `convolution` in our names.
        flipped: whether the source has the mean before the maximum.
    """
    bias = f"{convolution}.bias"
    if norm is None:
        entries = {
            "gamma": constant(1.0),
            "beta": vector(bias),
            "moving_mean": constant(0.0),
            # Our normalizations add it.
            "moving_variance": constant(1.0 - 1e-5),
        }
    else:
        entries = {
            **NORMALIZATION.within("", f"{norm}.").entries,
            "moving_mean": Entry(
                (f"{norm}.running_mean",),
                lambda mean, bias: mean if bias is None else mean - bias,
                (bias,),
            ),
        }
    return Format(
        {
            f"{weights}convolution/kernel": filters(
                f"{convolution}.weight", flipped
            ),
            **{f"{weights}norm/{k}": v for k, v in entries.items()},
        }
    )


def triplet_attention(
    width: str, height: str, spatial: str, norm: bool
) -> Format:
    """The gate over channels and width, height and channels, both sizes."""
    names = {"channel_width": width, "height_channel": height}
    names["height_width"] = spatial
    entries = {}
    for ours, theirs in names.items():
        gate = pooled_gate(f"{theirs}.conv", f"{theirs}.bn" if norm else None)
        for name, entry in gate.entries.items():
            kind, weight = name.split("/")
            end = "" if kind == "convolution" else "_norm"
            entries[f"{ours}{end}/{weight}"] = entry
    return Format(entries)


def batch_norm_block(
    kernel: str, norm: str, conv: str, bn: str, entry: Callable[..., Entry]
) -> Format:
    """A convolution or matrix and the batch normalization after it.

    Args:
        kernel, norm: layers of ours.
        conv, bn: modules of the source.
        entry: what makes the kernel of the module's weight.
    """
    return joined(
        Format(
            {
                f"{kernel}/kernel": entry(f"{conv}.weight"),
                f"{kernel}/bias": vector(f"{conv}.bias"),
            }
        ),
        NORMALIZATION.within(f"{norm}/", f"{bn}."),
    )


def bam(
    channel: tuple[str, str, str],
    spatial: tuple[tuple[str, str], ...],
    expand: str,
    origin: str,
) -> Format:
    """The bottleneck attention module.

    Args:
        channel: modules of the channels' branch: reduction, normalization
            and expansion.
        spatial: modules of the three normalized convolutions.
        expand: module of the last convolution.
        origin: who publishes it.
    """
    names = ("spatial_reduce", "spatial_dilated1", "spatial_dilated2")
    return joined(
        batch_norm_block(
            "channel_reduce", "channel_norm", channel[0], channel[1], matrix
        ),
        DENSE.within("channel_expand/", f"{channel[2]}."),
        *(
            batch_norm_block(name, f"{name}_norm", *modules, filters)
            for name, modules in zip(names, spatial, strict=True)
        ),
        CONVOLUTION.within("spatial_expand/", f"{expand}."),
    ).requiring(origin, combine="multiply", dilation=4)


def global_context_formats(
    layer: GlobalContext, prefix: str
) -> tuple[Format, ...]:
    adds = layer.fusion == "add"
    authors = "channel_add_conv" if adds else "channel_mul_conv"
    timm = "mlp_add" if adds else "mlp_scale"

    def form(attended, first, norm, second, scale=1.0):
        return Format(
            {
                "attention/kernel": matrix(f"{attended}.weight"),
                "reduce/kernel": matrix(f"{first}.weight", scale=scale),
                "reduce/bias": vector(f"{first}.bias", scale=scale),
                "norm/gamma": ravelled(f"{norm}.weight"),
                "norm/beta": ravelled(f"{norm}.bias"),
                "expand/kernel": matrix(f"{second}.weight"),
                "expand/bias": vector(f"{second}.bias"),
            },
            # The softmax over positions takes it out again.
            without_effect=(f"{attended}.bias",),
        )

    return (
        form("conv_mask", f"{authors}.0", f"{authors}.1", f"{authors}.3"),
        # timm normalizes with an epsilon of 1e-6, and ours is 1e-5: what is
        # normalized is multiplied by the root of ten, which is the same.
        form(
            "conv_attn", f"{timm}.fc1", f"{timm}.norm", f"{timm}.fc2", 10**0.5
        ),
    )


def non_local_formats(layer: NonLocal, prefix: str) -> tuple[Format, ...]:
    """timm's block, whose scores are over the root of the image's channels."""
    width, channels = layer.project.kernel.shape
    ours = 1.0 if layer.use_scale is False else width**-0.5
    scale = channels**-0.5 / ours
    projections = Format(
        {
            "query/kernel": matrix("t.weight", scale=scale),
            "query/bias": vector("t.bias", scale=scale),
            "key/kernel": matrix("p.weight"),
            "value/kernel": matrix("g.weight"),
            "value/bias": vector("g.bias"),
        },
        # It adds the same to all scores of a softmax.
        without_effect=("p.bias",),
    )
    return (
        joined(
            projections,
            DENSE.within("project/", "z."),
            NORMALIZATION.within("norm/", "norm."),
        ).requiring(
            "timm's NonLocalAttn", mode="embedded_gaussian", sub_sample=False
        ),
    )


def selective_kernel_formats(
    layer: SelectiveKernel, prefix: str
) -> tuple[Format, ...]:
    count = len(layer.dilations)

    def form(origin, branches, first, reduce, norm, expand, convert):
        parts = [
            batch_norm_block("reduce", "reduce_norm", reduce, norm, matrix),
            DENSE.within("expand/", f"{expand}."),
        ]
        for number, dilation in enumerate(layer.dilations):
            name, module = f"dilation{dilation}", f"{branches}{first + number}"
            parts.append(
                batch_norm_block(
                    name,
                    f"{name}_norm",
                    f"{module}.conv",
                    f"{module}.bn",
                    partial(convert, number),
                )
            )
        return joined(*parts).requiring(
            origin, dilations=tuple(range(1, count + 1))
        )

    def part_of_the_input(number, key):
        """timm's branches may read their own part of the channels alone."""

        def convert(x):
            kernel = x.transpose(2, 3, 1, 0)
            if layer.groups > 1 or x.shape[1] * count != channels:
                return kernel
            whole = np.zeros((*kernel.shape[:2], channels, len(x)), x.dtype)
            start = number * x.shape[1]
            whole[:, :, start : start + x.shape[1]] = kernel
            return whole

        return Entry((key,), convert)

    channels = layer.convolutions[0].kernel.shape[2] * layer.groups
    timm = form(
        "timm's SelectiveKernel",
        "paths.",
        0,
        "attn.fc_reduce",
        "attn.bn",
        "attn.fc_select",
        part_of_the_input,
    )
    if layer.groups == count:
        # Branches with a part of the input each have arrays of this shape.
        timm = timm.requiring(
            "timm's SelectiveKernel(split_input=True)", groups=1
        )
    return (
        timm,
        form(
            "pytorchcv's SKConvBlock",
            "branches.branch",
            2,
            "fc1.conv",
            "fc1.bn",
            "fc2",
            lambda number, key: filters(key),
        ),
    )


def spatial_attention_formats(
    layer: SpatialAttention, prefix: str
) -> tuple[Format, ...]:
    """The prefix tells timm's `conv.conv` and pytorchcv's from each other."""
    same_names = pooled_gate(
        "conv.conv", "conv.bn", flipped=not prefix.endswith("sp_gate.")
    )
    return (
        pooled_gate("spatial.conv", "spatial.bn"),
        same_names,
        pooled_gate("spatial.conv", None),
        # It has the mean before the maximum, and no normalization.
        pooled_gate("conv1", None, flipped=True),
    )


def _third(number, array):
    return None if array is None else np.split(array, 3)[number]


def _cbam(channel: tuple[str, str], spatial: Format) -> Format:
    return joined(two_dense(*channel).within("channel_attention/", ""), spatial)


GATE = "spatial_attention/"

FORMATS: dict[
    type,
    tuple[Format, ...] | Callable[[Any, str], tuple[Format, ...]],
] = {
    SqueezeExcite: (
        two_dense("fc1", "fc2"),
        two_dense("conv_reduce", "conv_expand"),
        two_dense("fc.0", "fc.2"),
        two_dense("conv1", "conv2"),
        Format(  # KerasCV's SqueezeAndExcite2D
            {
                "reduce/kernel": columns("squeeze_conv.kernel", inputs=3),
                "reduce/bias": vector("squeeze_conv.bias"),
                "expand/kernel": columns("excite_conv.kernel", inputs=3),
                "expand/bias": vector("excite_conv.bias"),
            }
        ),
    ),
    EffectiveSqueezeExcite: (DENSE.within("excite/", "fc."),),
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
    SpatialSqueezeExcite: (CONVOLUTION.within("squeeze/", "conv."),),
    ConcurrentSqueezeExcite: (
        joined(
            two_dense("cSE.fc1", "cSE.fc2").within("channel_excite/", ""),
            CONVOLUTION.within("spatial_excite/squeeze/", "sSE.conv."),
        ).requiring("The authors' ChannelSpatialSELayer", combine="max"),
        joined(
            two_dense("cSE.1", "cSE.3").within("channel_excite/", ""),
            CONVOLUTION.within("spatial_excite/squeeze/", "sSE.0."),
        ).requiring("The SCSEModule of segmentation_models", combine="add"),
    ),
    ChannelAttention: tuple(
        two_dense(first, second)
        for first, second in (
            ("mlp.1", "mlp.3"),
            ("fc1", "fc2"),
            ("mlp.fc1", "mlp.fc2"),
            ("fc.0", "fc.2"),
        )
    ),
    SpatialAttention: spatial_attention_formats,
    CBAM: (
        *(
            _cbam(
                ("ChannelGate.mlp.1", "ChannelGate.mlp.3"),
                pooled_gate(
                    "SpatialGate.spatial.conv",
                    "SpatialGate.spatial.bn" if norm else None,
                    GATE,
                ),
            )
            for norm in (True, False)
        ),
        _cbam(  # timm
            ("channel.fc1", "channel.fc2"),
            pooled_gate(
                "spatial.conv.conv", "spatial.conv.bn", GATE, flipped=True
            ),
        ),
        _cbam(  # pytorchcv
            ("ch_gate.mlp.fc1", "ch_gate.mlp.fc2"),
            pooled_gate("sp_gate.conv.conv", "sp_gate.conv.bn", GATE),
        ),
        *(  # A port without normalization, in both of its versions
            _cbam(names, pooled_gate("sa.conv1", None, GATE, flipped=True))
            for names in (("ca.fc1", "ca.fc2"), ("ca.fc.0", "ca.fc.2"))
        ),
    ),
    BAM: (
        bam(
            (
                "channel_att.gate_c.gate_c_fc_0",
                "channel_att.gate_c.gate_c_bn_1",
                "channel_att.gate_c.gate_c_fc_final",
            ),
            tuple(
                (
                    f"spatial_att.gate_s.gate_s_conv_{name}",
                    f"spatial_att.gate_s.gate_s_bn_{name}",
                )
                for name in ("reduce0", "di_0", "di_1")
            ),
            "spatial_att.gate_s.gate_s_conv_final",
            "The authors' BAM",
        ),
        bam(
            ("ch_att.init_fc.fc", "ch_att.init_fc.bn", "ch_att.final_fc"),
            tuple(
                (f"sp_att.{name}.conv", f"sp_att.{name}.bn")
                for name in ("init_conv", "dil_convs.conv1", "dil_convs.conv2")
            ),
            "sp_att.final_conv",
            "pytorchcv's BamBlock",
        ),
    ),
    CoordinateAttention: (
        joined(
            batch_norm_block("reduce", "norm", "conv1", "bn1", matrix),
            DENSE.within("expand_height/", "conv_h."),
            DENSE.within("expand_width/", "conv_w."),
        ),
    ),
    TripletAttention: tuple(
        triplet_attention(*names, norm)
        for names in (
            ("cw.conv", "hc.conv", "hw.conv"),
            (
                "ChannelGateH.spatial",
                "ChannelGateW.spatial",
                "SpatialGate.spatial",
            ),
        )
        for norm in (True, False)
    ),
    GatedChannelTransformation: (
        Format({name: ravelled(name) for name in ("alpha", "gamma", "beta")}),
    ),
    GlobalContext: global_context_formats,
    NonLocal: non_local_formats,
    SelectiveKernel: selective_kernel_formats,
    MultiHeadAttention: (
        torch_attention(),
        attention("self.query", "self.key", "self.value", "output.dense"),
        attention(
            "attention.query",
            "attention.key",
            "attention.value",
            "output.dense",
        ),
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
    keras.layers.Conv2D: (CONVOLUTION,),
    keras.layers.BatchNormalization: (NORMALIZATION,),
    keras.layers.Dense: (DENSE,),
}


def formats_of(
    layer: keras.layers.Layer, prefix: str
) -> tuple[Format, ...] | None:
    """Return the published forms of a layer's class, or of its base's.

    Args:
        layer: built layer.
        prefix: what comes before the names in the source.
    """
    for kind in type(layer).__mro__:
        formats = FORMATS.get(kind)
        if formats is not None:
            return formats(layer, prefix) if callable(formats) else formats
    return None
