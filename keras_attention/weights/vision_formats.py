"""The published forms of image layers that need more than names."""

from collections.abc import Callable
from functools import partial

import numpy as np

from keras_attention.layers.vision.global_context import GlobalContext
from keras_attention.layers.vision.non_local import NonLocal
from keras_attention.layers.vision.selective_kernel import SelectiveKernel
from keras_attention.layers.vision.spatial_attention import SpatialAttention
from keras_attention.weights.entries import CONVOLUTION
from keras_attention.weights.entries import DENSE
from keras_attention.weights.entries import NORMALIZATION
from keras_attention.weights.entries import Entry
from keras_attention.weights.entries import Format
from keras_attention.weights.entries import constant
from keras_attention.weights.entries import filters
from keras_attention.weights.entries import joined
from keras_attention.weights.entries import matrix
from keras_attention.weights.entries import ravelled
from keras_attention.weights.entries import vector


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
