"""The published forms of each layer's weights: `formats_of`.

Where a form is more than names, `vision_formats` has it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_attention.layers.sequence.additive_attention import AdditiveAttention
from keras_attention.layers.sequence.dynamic_conv_1d import DynamicConv1D
from keras_attention.layers.sequence.lightweight_conv_1d import (
    LightweightConv1D,
)
from keras_attention.layers.sequence.multi_head_attention import (
    MultiHeadAttention,
)
from keras_attention.layers.sequence.scaled_dot_product_attention import (
    ScaledDotProductAttention,
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
from keras_attention.weights.entries import CONVOLUTION
from keras_attention.weights.entries import DENSE
from keras_attention.weights.entries import NORMALIZATION
from keras_attention.weights.entries import Entry
from keras_attention.weights.entries import Format
from keras_attention.weights.entries import as_is
from keras_attention.weights.entries import columns
from keras_attention.weights.entries import joined
from keras_attention.weights.entries import matrix
from keras_attention.weights.entries import ravelled
from keras_attention.weights.entries import two_dense
from keras_attention.weights.entries import vector
from keras_attention.weights.vision_formats import bam
from keras_attention.weights.vision_formats import batch_norm_block
from keras_attention.weights.vision_formats import global_context_formats
from keras_attention.weights.vision_formats import non_local_formats
from keras_attention.weights.vision_formats import pooled_gate
from keras_attention.weights.vision_formats import selective_kernel_formats
from keras_attention.weights.vision_formats import spatial_attention_formats
from keras_attention.weights.vision_formats import triplet_attention


def attention(query: str, key: str, value: str, output: str) -> Format:
    """Three modules of torch for the projections, and one for the output."""
    names = {"query": query, "key": key, "value": value}
    entries = output_of_attention(output)
    for ours, theirs in names.items():
        entries[f"{ours}/kernel"] = matrix(f"{theirs}.weight").by_head(1)
        entries[f"{ours}/bias"] = vector(f"{theirs}.bias").by_head(0)
    # BERT calls the normalization after it a part of attention.
    norm = ("output.LayerNorm.weight", "output.LayerNorm.bias")
    return Format(entries, outside=norm)


def fused_attention(weight: str, bias: str, output: str) -> Format:
    """One array of torch for the three projections, one after the other."""
    entries = output_of_attention(output)
    for number, name in enumerate(("query", "key", "value")):
        entries[f"{name}/kernel"] = Entry(
            (weight,), partial(_third_matrix, number), input_axes=1
        )
        entries[f"{name}/bias"] = Entry(
            (), partial(_third, number), (bias,), input_axes=0
        )
    return Format(entries)


def torch_attention_of_widths() -> Format:
    """Torch's own layer, where query, key and value differ in width."""
    entries = output_of_attention("out_proj")
    for number, name in enumerate(("query", "key", "value")):
        weight = f"{name[0]}_proj_weight"
        entries[f"{name}/kernel"] = matrix(weight).by_head(1)
        entries[f"{name}/bias"] = Entry(
            (), partial(_third, number), ("in_proj_bias",), input_axes=0
        )
    return Format(entries)


def output_of_attention(module: str) -> dict[str, Entry]:
    return {
        "attention_output/kernel": matrix(f"{module}.weight").by_head(2),
        "attention_output/bias": vector(f"{module}.bias"),
    }


def keras_attention(*projections: str) -> Format:
    """Keras' MultiHeadAttention and GroupQueryAttention."""
    entries = {}
    for name in (*projections, "output"):
        ours = "attention_output" if name == "output" else name
        kernel, bias = f"_{name}_dense.kernel", f"_{name}_dense.bias"
        entries[f"{ours}/kernel"] = as_is(kernel)
        entries[f"{ours}/bias"] = vector(bias).by_head(0)
    return Format(entries)


def keras_attention_file(private: str, gate: str | None = None) -> Format:
    """The same in Keras' files of weights, which number them.

    Args:
        private: What comes before the names of the projections' attributes.
        gate: Name of the gate's attribute, or `None` for none.
    """
    names = {
        "query": f"{private}query_dense",
        "key": f"{private}key_dense",
        "value": f"{private}value_dense",
        "attention_output": f"{private}output_dense",
    }
    if gate is not None:
        names["gate"] = gate
    entries = {}
    for ours, theirs in names.items():
        entries[f"{ours}/kernel"] = as_is(f"{theirs}/vars/0")
        entries[f"{ours}/bias"] = vector(f"{theirs}/vars/1").by_head(0)
    return Format(entries)


def _third(number, array):
    return None if array is None else np.split(array, 3)[number]


def _third_matrix(number, array):
    return np.split(array, 3)[number].T


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
        fused_attention("in_proj_weight", "in_proj_bias", "out_proj"),
        torch_attention_of_widths(),
        attention("self.query", "self.key", "self.value", "output.dense"),
        attention(
            "attention.query",
            "attention.key",
            "attention.value",
            "output.dense",
        ),
        attention("q_lin", "k_lin", "v_lin", "out_lin"),
        attention("q_proj", "k_proj", "v_proj", "out_proj"),
        # timm's vision transformers
        fused_attention("qkv.weight", "qkv.bias", "proj"),
        keras_attention("query", "key", "value"),
        keras_attention("query", "key", "value", "gate"),
        keras_attention_file(""),
        keras_attention_file("", "_gate_dense"),
        keras_attention_file("", "gate_dense"),
        keras_attention_file("_"),
        keras_attention_file("_", "_gate_dense"),
    ),
    AdditiveAttention: (
        Format({"scale": as_is("scale")}),
        Format({"scale": as_is("vars/0")}),
    ),
    ScaledDotProductAttention: (
        Format(
            {
                "scale": as_is("scale"),
                "concat_score_weight": as_is("concat_score_weight"),
            }
        ),
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
