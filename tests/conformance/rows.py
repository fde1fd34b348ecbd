"""The table of layers: one row, or more, for every public layer.

The tests of this folder loop over it. A layer that is public and has no row
fails the run. Several rows of one layer name its variants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

import keras_attention as ka

IMAGE = (2, 7, 5, 32)
SMALL_GSOP = {"reduced_channels": 12, "grid_size": 3}
SEQUENCE = (2, 11, 24)


@dataclass(frozen=True)
class Row:
    """A layer, what it is made with, and what it is given.

    Attributes:
        layer: the public class.
        arguments: of its constructor.
        shape: of its input, channels last.
        variant: told apart from other rows of the class by this word.
        static_size: the layer needs a known height and width, or length.
        half_tolerance: largest error allowed in half precision, as a part of
            the largest output.
        output_of_gate: what a gate's layer makes of image and gate, or `None`
            if its output is no function of the two.
        make: makes the layer of a wrapper, whose argument is a layer that
            must be new each time. `None` calls the class.
    """

    layer: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = IMAGE
    variant: str = ""
    static_size: bool = False
    half_tolerance: float = 2e-2
    output_of_gate: Callable[..., Any] | None = np.multiply
    make: Callable[..., Any] | None = None

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 4

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.layer.__name__, self.variant)))


def relu_of_product(x, gate):
    return np.maximum(x * gate, 0)


def blend_in(data_format, **kwargs):
    """A `BlendIn` whose layer has the data format and dtype of the row."""
    dtype = kwargs.get("dtype")
    inner = ka.SqueezeExcite(data_format=data_format, dtype=dtype, name="se")
    return ka.BlendIn(inner, **kwargs)


ROWS = [
    # Ratios are small: few hidden units may all be at rest behind their ReLU.
    Row(ka.BAM, {"ratio": 4}),
    Row(
        ka.BAM,
        {"ratio": 4, "dilation": 2, "combine": "add"},
        variant="add",
    ),
    Row(ka.BlendIn, make=blend_in),
    Row(ka.CBAM, {"ratio": 4}),
    Row(
        ka.CBAM,
        {"ratio": 4, "pool_types": ("lp", "lse"), "use_spatial": False},
        variant="channel",
    ),
    Row(
        ka.CBAM,
        {"ratio": 4, "kernel_size": 3, "gamma_initializer": "ones"},
        variant="gamma",
    ),
    Row(ka.ChannelAttention, {"ratio": 4}),
    Row(
        ka.ChannelAttention,
        {"ratio": 4, "pool_types": ("avg", "max", "lp", "lse")},
        variant="pools",
    ),
    Row(ka.ChannelGSoP, {"reduced_channels": 12}, half_tolerance=4e-2),
    Row(
        ka.ChannelGSoP,
        {
            "reduced_channels": 5,
            "expansion": 3,
            "strides": 2,
            "activation": "leaky_relu",
        },
        variant="strides",
    ),
    Row(ka.ConcurrentSqueezeExcite),
    Row(ka.ConcurrentSqueezeExcite, {"combine": "add"}, variant="add"),
    Row(ka.CoordinateAttention),
    Row(
        ka.CoordinateAttention,
        {"ratio": 2, "min_units": 1, "activation": "relu"},
        variant="relu",
    ),
    Row(ka.CovariancePooling, {"reduced_channels": 16}),
    Row(
        ka.CovariancePooling,
        {"reduced_channels": None, "iterations": 3},
        variant="plain",
    ),
    Row(ka.DynamicConv1D, {"num_heads": 3, "kernel_size": 5}, SEQUENCE),
    Row(
        ka.DynamicConv1D,
        {
            "num_heads": 4,
            "kernel_size": 4,
            "causal": True,
            "renormalize_padding": True,
            "weight_dropout": 0.1,
            "use_bias": True,
            "use_filter_bias": True,
        },
        SEQUENCE,
        variant="causal",
    ),
    Row(
        ka.DynamicConv1D,
        {
            "num_heads": 4,
            "kernel_size": 13,
            "weight_softmax": False,
            "weight_dropout": 0.1,
            "shared_dropout": True,
        },
        SEQUENCE,
        variant="linear",
    ),
    Row(ka.EffectiveSqueezeExcite),
    Row(ka.EfficientChannelAttention),
    Row(
        ka.EfficientChannelAttention,
        {"shared": False, "kernel_size": 5},
        variant="own",
    ),
    Row(
        ka.EfficientChannelAttention,
        {"padding": "circular", "gamma": 1, "beta": 2},
        variant="circular",
    ),
    Row(ka.GatedConvolutionBlock, {"num_heads": 3, "kernel_size": 5}, SEQUENCE),
    Row(
        ka.GatedConvolutionBlock,
        {
            "num_heads": 4,
            "kernel_size": 4,
            "convolution": "dynamic",
            "glu": False,
            "causal": True,
            "weight_dropout": 0.1,
            "shared_dropout": True,
            "input_dropout": 0.1,
            "dropout": 0.1,
            "use_bias": False,
            "seed": 3,
        },
        SEQUENCE,
        variant="dynamic",
    ),
    Row(ka.GatedChannelTransformation),
    Row(
        ka.GatedChannelTransformation,
        {
            "norm": "l1",
            "epsilon": 1e-3,
            "alpha_initializer": "random_normal",
            "gamma_initializer": "random_normal",
            "beta_initializer": "random_normal",
        },
        variant="l1",
    ),
    Row(ka.GatherExcite),
    Row(ka.GatherExcite, {"extent": 2}, variant="local"),
    Row(ka.GatherExcite, {"extent": 4}, shape=(2, 8, 4, 6), variant="blocks"),
    Row(
        ka.GatherExcite,
        {"extent": 4, "learned_gather": True},
        variant="learned",
    ),
    Row(
        ka.GatherExcite,
        {
            "extent": 2,
            "learned_gather": True,
            "learned_excite": True,
            "ratio": 4,
        },
        variant="plus",
    ),
    Row(
        ka.GatherExcite,
        {"learned_gather": True},
        variant="global",
        static_size=True,
    ),
    Row(
        ka.GatherExcite,
        {"learned_gather": True, "learned_excite": True, "ratio": 4},
        variant="global-plus",
        static_size=True,
    ),
    Row(
        ka.GatherExcite,
        {"extent": 8, "learned_excite": True, "ratio": 4},
        variant="excite",
    ),
    Row(ka.GlobalContext, {"ratio": 4}),
    Row(
        ka.GlobalContext,
        {"ratio": 4, "fusion": "multiply", "output_initializer": "he_normal"},
        variant="multiply",
    ),
    Row(ka.GSoP, SMALL_GSOP, half_tolerance=4e-2),
    Row(
        ka.GSoP,
        {**SMALL_GSOP, "fusion": "add", "strides": 2},
        variant="add",
        half_tolerance=4e-2,
    ),
    Row(
        ka.GSoP,
        {**SMALL_GSOP, "fusion": "max", "activation": "leaky_relu"},
        variant="max",
        half_tolerance=4e-2,
    ),
    Row(
        ka.GSoP,
        {**SMALL_GSOP, "fusion": "concat"},
        shape=(2, 7, 5, 128),
        variant="concat",
        half_tolerance=4e-2,
        output_of_gate=None,
    ),
    Row(ka.LightweightConv1D, {"num_heads": 3, "kernel_size": 5}, SEQUENCE),
    Row(
        ka.LightweightConv1D,
        {
            "num_heads": 4,
            "kernel_size": 4,
            "causal": True,
            "renormalize_padding": True,
            "weight_dropout": 0.1,
            "use_bias": True,
            "seed": 3,
        },
        SEQUENCE,
        variant="causal",
    ),
    Row(
        ka.LightweightConv1D,
        {
            "num_heads": 4,
            "kernel_size": 13,
            "weight_softmax": False,
            "weight_dropout": 0.1,
            "shared_dropout": False,
        },
        SEQUENCE,
        variant="linear",
    ),
    Row(ka.MultiHeadAttention, {"num_heads": 4}, SEQUENCE),
    Row(
        ka.MultiHeadAttention,
        {"num_heads": 4, "causal": True, "window": 3},
        SEQUENCE,
        variant="causal-window",
    ),
    Row(
        ka.MultiHeadAttention,
        {"num_heads": 4, "num_kv_heads": 2, "positions": "rotary"},
        SEQUENCE,
        variant="grouped-rotary",
    ),
    Row(
        ka.MultiHeadAttention,
        {"num_heads": 3, "num_kv_heads": 1, "positions": "alibi"},
        SEQUENCE,
        variant="multi-query-alibi",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 2,
            "positions": "relative",
            "causal": True,
            "num_buckets": 4,
            "max_distance": 7,
        },
        SEQUENCE,
        variant="relative",
    ),
    Row(
        ka.MultiHeadAttention,
        {"num_heads": 2, "qk_norm": True, "logit_soft_cap": 5.0},
        SEQUENCE,
        variant="qk-norm-cap",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 3,
            "key_dim": 4,
            "value_dim": 5,
            "output_dim": 7,
            "use_bias": False,
            "dropout": 0.3,
            "seed": 1,
        },
        SEQUENCE,
        variant="widths-dropout",
    ),
    Row(ka.NonLocal),
    Row(
        ka.NonLocal,
        {"mode": "gaussian", "use_scale": True, "sub_sample": False},
        variant="gaussian",
    ),
    Row(
        ka.NonLocal,
        {"mode": "dot_product", "reduced_channels": 5},
        variant="dot_product",
    ),
    Row(
        ka.NonLocal,
        {"mode": "concatenation", "gamma_initializer": "ones"},
        variant="concatenation",
    ),
    Row(
        ka.PositionGSoP,
        {"reduced_channels": 12, "grid_size": 4},
        half_tolerance=4e-2,
        output_of_gate=relu_of_product,
    ),
    Row(
        ka.PositionGSoP,
        {"reduced_channels": 5, "expansion": 3, "grid_size": 2},
        variant="coarse",
        output_of_gate=relu_of_product,
    ),
    Row(ka.ScaledDotProductAttention, {}, SEQUENCE),
    Row(
        ka.ScaledDotProductAttention,
        {
            "scale": 0.5,
            "dropout": 0.3,
            "causal": True,
            "window": 3,
            "logit_soft_cap": 5.0,
        },
        SEQUENCE,
        variant="options",
    ),
    Row(ka.SelectiveKernel),
    Row(
        ka.SelectiveKernel,
        {"filters": 24, "strides": 2, "groups": 8, "ratio": 2, "min_units": 8},
        variant="strides",
    ),
    Row(
        ka.SelectiveKernel,
        {"dilations": (1, 3, 2), "groups": 1},
        variant="branches",
    ),
    Row(ka.SimAM),
    Row(ka.SimAM, {"regularization": 0.1}, variant="regularization"),
    Row(ka.SpatialAttention),
    Row(
        ka.SpatialAttention,
        {"kernel_size": 3, "gamma_initializer": "ones"},
        variant="gamma",
    ),
    Row(ka.SpatialSqueezeExcite),
    Row(ka.SqueezeExcite),
    Row(ka.SqueezeExcite, {"divisor": 8, "use_bias": False}, variant="divisor"),
    Row(ka.TripletAttention),
    Row(
        ka.TripletAttention,
        {"kernel_size": 3, "use_spatial": False},
        variant="channel",
    ),
]
