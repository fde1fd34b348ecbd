"""The table of layers: one row, or more, for every public layer.

The tests of this folder loop over it. A layer that is public and has no row
fails the run, and so does a constructor's argument that no row sets to
something other than its default. Several rows of one layer name its variants.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

import keras
import numpy as np

import keras_attention as ka
from keras_attention import positions

IMAGE = (2, 7, 5, 32)
SMALL_GSOP = {"reduced_channels": 12, "grid_size": 3}
SEQUENCE = (2, 11, 24)
VOLUME = (2, 3, 5, 4, 8)


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
        rounds_first: half precision is compared with a float32 layer of
            rounded weights and inputs, whose rounding alone may change the
            output at a token by more than the tolerance.
        output_of_gate: what a gate's layer makes of image and gate, or `None`
            if its output is no function of the two.
        pools: the layer takes a sequence and returns none, and so no mask.
        make: makes the layer of a wrapper, whose argument is a layer that
            must be new each time. `None` calls the class.
    """

    layer: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = IMAGE
    variant: str = ""
    static_size: bool = False
    half_tolerance: float = 2e-2
    rounds_first: bool = False
    output_of_gate: Callable[..., Any] | None = np.multiply
    pools: bool = False
    make: Callable[..., Any] | None = None

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 4

    @property
    def is_sequence(self) -> bool:
        return len(self.shape) == 3

    @property
    def has_data_format(self) -> bool:
        return "data_format" in constructor_arguments(self.layer)

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.layer.__name__, self.variant)))

    def without(self, argument: str) -> "Row":
        """Return the row with one argument at its default."""
        kept = {n: v for n, v in self.arguments.items() if n != argument}
        return replace(self, arguments=kept)


def relu_of_product(x, gate):
    return np.maximum(x * gate, 0)


def shuffle_of_product(x, gate):
    """In either layout: the axis of the table's 32 channels is split in two."""
    axis = x.shape.index(32)
    halves = np.split(x * gate, 2, axis=axis)
    return np.stack(halves, axis=axis + 1).reshape(x.shape)


def blend_in(data_format="channels_last", **kwargs):
    """A `BlendIn` whose layer has the data format and dtype of the row."""
    dtype = kwargs.get("dtype")
    inner = ka.SqueezeExcite(data_format=data_format, dtype=dtype, name="se")
    return ka.BlendIn(inner, **kwargs)


ROWS = [
    Row(ka.AdditiveAttention, {}, SEQUENCE),
    Row(
        ka.AdditiveAttention,
        {"units": 7, "use_scale": False, "dropout": 0.3},
        SEQUENCE,
        variant="units",
    ),
    # With the projection, the output is no function of image and gate.
    Row(ka.AttentionGate, output_of_gate=None),
    Row(
        ka.AttentionGate,
        {"units": 5, "use_projection": False},
        shape=VOLUME,
        variant="volume",
    ),
    Row(ka.AttentionPooling1D, {}, SEQUENCE, pools=True),
    Row(
        ka.AttentionPooling1D,
        {"units": 7, "use_bias": False},
        SEQUENCE,
        variant="units",
        pools=True,
    ),
    Row(
        ka.AttentionPooling2D,
        {"output_dim": 7, "num_heads": 4},
        static_size=True,
        pools=True,
    ),
    # Two attentions in a row, whose softmax of large products is near a step.
    Row(
        ka.AxialAttention,
        {"num_heads": 4, "use_bias": False},
        half_tolerance=8e-2,
    ),
    # Ratios are small: few hidden units may all be at rest behind their ReLU.
    Row(ka.BAM, {"ratio": 4}),
    Row(
        ka.BAM,
        {"ratio": 4, "dilation": 2, "combine": "add"},
        variant="add",
    ),
    Row(ka.BlendIn, make=blend_in),
    Row(ka.BottleneckAttention, static_size=True),
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
    Row(ka.ContextualTransformer, {"min_units": 8}),
    Row(ka.CoordinateAttention),
    Row(
        ka.CoordinateAttention,
        {"ratio": 16, "min_units": 1, "activation": "relu"},
        variant="relu",
    ),
    Row(ka.CovariancePooling, {"reduced_channels": 16}),
    Row(
        ka.CovariancePooling,
        {"reduced_channels": None, "iterations": 3},
        variant="plain",
    ),
    Row(ka.CrissCrossAttention),
    Row(ka.DifferentialAttention, {"num_heads": 3}, SEQUENCE),
    Row(
        ka.DifferentialAttention,
        {
            "num_heads": 4,
            "key_dim": 4,
            "num_kv_heads": 2,
            "output_dim": 7,
            "depth": 4,
            "dropout": 0.3,
            "causal": True,
            "window": 4,
            "positions": "rotary",
            "seed": 1,
        },
        SEQUENCE,
        variant="causal-rotary",
    ),
    Row(ka.DoubleAttention),
    Row(ka.DualAttention),
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
        {"padding": "circular", "gamma": 1, "beta": 4},
        variant="circular",
    ),
    Row(ka.EfficientMultiScaleAttention, {"groups": 8}),
    Row(ka.ExternalAttention, {"memory_size": 5}),
    Row(ka.FrequencyChannelAttention, {"ratio": 4, "grid_size": 7}),
    Row(ka.GatedConvolutionBlock, {"num_heads": 3, "kernel_size": 5}, SEQUENCE),
    Row(
        ka.GatedConvolutionBlock,
        {
            "num_heads": 4,
            "kernel_size": 4,
            "convolution": "dynamic",
            "glu": False,
            "causal": True,
            "weight_softmax": False,
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
    Row(ka.GatedDeltaNet, {"num_heads": 4}, SEQUENCE),
    Row(
        ka.GatedDeltaNet,
        {"num_heads": 2, "key_dim": 4, "value_dim": 5, "kernel_size": 1},
        SEQUENCE,
        variant="widths",
    ),
    Row(ka.GatedLinearAttention, {"num_heads": 4}, SEQUENCE),
    Row(
        ka.GatedLinearAttention,
        {
            "num_heads": 2,
            "key_dim": 4,
            "value_dim": 5,
            "gate_rank": 3,
            "gate_divisor": 0.1,
        },
        SEQUENCE,
        variant="widths",
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
    # Its gate is not bounded, and more than float16 holds for larger kernels.
    # Blocks that 7 x 5 positions are no multiple of, and halos beyond them.
    Row(ka.HaloAttention, {"block_size": (4, 3), "halo_size": (1, 2)}),
    Row(
        ka.HaloAttention,
        {
            "block_size": 2,
            "num_heads": 2,
            "key_dim": 5,
            "mask_padding": False,
        },
        variant="zeros",
    ),
    Row(ka.Involution),
    Row(ka.LargeKernelAttention, output_of_gate=None),
    Row(
        ka.LargeKernelAttention,
        {"kernel_size": 3, "dilated_kernel_size": 3, "dilation": 2},
        shape=(2, 7, 5, 6),
        variant="small",
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
    Row(ka.LinearAttention, {"num_heads": 4}, SEQUENCE),
    Row(
        ka.LinearAttention,
        {
            "num_heads": 3,
            "key_dim": 4,
            "value_dim": 5,
            "causal": True,
            "use_bias": False,
        },
        SEQUENCE,
        variant="causal",
    ),
    Row(ka.LuongAttention, {}, SEQUENCE),
    Row(ka.LuongAttention, {"score": "general"}, SEQUENCE, variant="general"),
    Row(
        ka.LuongAttention,
        {"score": "concat", "units": 7, "dropout": 0.3},
        SEQUENCE,
        variant="concat",
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
        {
            "num_heads": 3,
            "causal": True,
            "positions": positions.Rotary(
                "half", 0.5, 50.0, positions.Llama3Scaling(4.0, 1.0, 4.0, 64)
            ),
        },
        SEQUENCE,
        variant="partial-rotary",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 3,
            "num_kv_heads": 1,
            "positions": positions.ALiBi(max_bias=6.0),
        },
        SEQUENCE,
        variant="multi-query-alibi",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 2,
            "positions": positions.RelativeBias(4, 7),
            "causal": True,
        },
        SEQUENCE,
        variant="relative",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 2,
            "qk_norm": True,
            "logit_soft_cap": 5.0,
            "use_sinks": True,
        },
        SEQUENCE,
        variant="qk-norm-cap",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 4,
            "num_kv_heads": 2,
            "talking_heads": True,
            "causal": True,
        },
        SEQUENCE,
        variant="talking-heads",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 2,
            "causal": True,
            "window": 3,
            "num_sink_tokens": 2,
            "positions": "rotary",
        },
        SEQUENCE,
        variant="sink-tokens",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 3,
            "key_dim": 4,
            "value_dim": 5,
            "output_shape": 7,
            "use_bias": False,
            "dropout": 0.3,
            "seed": 1,
        },
        SEQUENCE,
        variant="widths-dropout",
    ),
    Row(
        ka.MultiHeadAttention,
        {
            "num_heads": 2,
            "use_gate": True,
            "sliding_window": 2,
            "flash_attention": False,
        },
        SEQUENCE,
        variant="gate",
    ),
    Row(
        ka.MultiHeadAttention,
        {"num_heads": 2, "attention_axes": (3, 1)},
        (2, 3, 5, 4, 8),
        variant="axes",
    ),
    Row(ka.MultiHeadLatentAttention, {"num_heads": 3}, SEQUENCE),
    Row(
        ka.MultiHeadLatentAttention,
        {
            "num_heads": 4,
            "key_dim": 5,
            "rotary_dim": 2,
            "value_dim": 7,
            "latent_dim": 6,
            "query_latent_dim": 9,
            "output_dim": 7,
            "dropout": 0.3,
            "causal": True,
            "window": 4,
            "seed": 1,
        },
        SEQUENCE,
        variant="causal-widths",
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
    Row(ka.PolarizedSelfAttention),
    Row(
        ka.PolarizedSelfAttention,
        {"layout": "sequential"},
        variant="sequential",
    ),
    Row(
        ka.PoolingByMultiheadAttention,
        {"num_heads": 4},
        SEQUENCE,
        pools=True,
    ),
    Row(
        ka.PoolingByMultiheadAttention,
        {
            "num_heads": 3,
            "num_seeds": 2,
            "use_input_feed_forward": False,
            "use_layer_norm": False,
        },
        SEQUENCE,
        variant="seeds",
        pools=True,
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
    # The norm of a head makes what cancels out as large as anything else.
    Row(ka.Retention, {"num_heads": 4}, SEQUENCE, rounds_first=True),
    Row(
        ka.Retention,
        {
            "num_heads": 3,
            "key_dim": 4,
            "value_dim": 5,
            "max_wavelength": 20.0,
        },
        SEQUENCE,
        variant="widths",
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
    Row(
        ka.ScaledDotProductAttention,
        {"score_mode": "concat", "use_scale": True},
        SEQUENCE,
        variant="concat",
    ),
    Row(
        ka.ScaledDotProductAttention,
        {"attention_axes": (3, 1)},
        VOLUME,
        variant="axes",
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
    Row(ka.ShuffleAttention, {"groups": 4}, output_of_gate=shuffle_of_product),
    Row(
        ka.ShuffleAttention,
        {"scale_initializer": "ones", "bias_initializer": "zeros"},
        variant="64-groups",
        output_of_gate=shuffle_of_product,
    ),
    Row(ka.SimAM),
    Row(ka.SimAM, {"regularization": 0.1}, variant="regularization"),
    Row(ka.SpatialAttention),
    Row(
        ka.SpatialAttention,
        {"kernel_size": 3, "gamma_initializer": "ones"},
        variant="gamma",
    ),
    Row(ka.SpatialGroupwiseEnhance, {"groups": 8}),
    Row(ka.OutlookAttention, {"num_heads": 2}),
    Row(
        ka.OutlookAttention,
        {"num_heads": 4, "strides": 1},
        variant="every-position",
    ),
    Row(ka.PyramidSqueezeAttention, {"groups": (1, 2, 2, 1)}),
    Row(ka.SpatialSqueezeExcite),
    Row(ka.SplitAttention, {"min_units": 8}),
    Row(
        ka.SplitAttention,
        {"radix": 1, "groups": 4, "filters": 24, "strides": 2},
        variant="radix-1",
    ),
    Row(ka.SqueezeExcite),
    Row(
        ka.SqueezeExcite,
        {"ratio": 3, "divisor": 8, "use_bias": False},
        variant="divisor",
    ),
    # Of zeros, which it starts with, the mean stays where it was.
    Row(ka.StyleRecalibration, {"kernel_initializer": "ones"}),
    Row(ka.TripletAttention),
    Row(
        ka.TripletAttention,
        {"kernel_size": 3, "use_spatial": False},
        variant="channel",
    ),
    # Windows that the image's 7 x 5 positions are no multiple of, shifted.
    Row(ka.WindowAttention, {"window_size": (4, 3), "shift_size": (2, 1)}),
]

# The layers that find the rank of their input when they are built. Volumes are
# of those whose code sees the rank.
ROWS += [
    Row(layer, arguments, SEQUENCE, "-".join(filter(None, ("sequence", name))))
    for layer, arguments, name in [
        (ka.CBAM, {"ratio": 4, "gamma_initializer": "ones"}, ""),
        (ka.ChannelAttention, {"ratio": 4}, ""),
        (
            ka.ChannelAttention,
            {"ratio": 4, "pool_types": ("lp", "lse", "avg")},
            "pools",
        ),
        (ka.ConcurrentSqueezeExcite, {}, ""),
        (ka.EffectiveSqueezeExcite, {}, ""),
        (ka.EfficientChannelAttention, {}, ""),
        (ka.GatedChannelTransformation, {}, ""),
        (ka.GlobalContext, {"ratio": 4}, ""),
        (ka.NonLocal, {"sub_sample": False}, ""),
        (
            ka.NonLocal,
            {"sub_sample": False, "mode": "concatenation"},
            "concatenation",
        ),
        (ka.SimAM, {}, ""),
        (ka.SpatialAttention, {}, ""),
        (ka.SpatialSqueezeExcite, {}, ""),
        (ka.SqueezeExcite, {"ratio": 4}, ""),
    ]
]
ROWS += [
    Row(layer, arguments, VOLUME, "volume")
    for layer, arguments in [
        (ka.CBAM, {"ratio": 2, "kernel_size": 3, "gamma_initializer": "ones"}),
        (ka.ConcurrentSqueezeExcite, {}),
        (ka.GlobalContext, {"ratio": 2}),
        (ka.NonLocal, {}),
        (ka.SimAM, {}),
        (ka.SqueezeExcite, {"ratio": 2}),
    ]
]


def constructor_arguments(layer: type) -> dict[str, Any]:
    """Return every argument of a constructor with its default.

    Where a constructor takes `**kwargs`, those of the next class are added,
    up to `keras.layers.Layer`. An argument without a default has
    `inspect.Parameter.empty`.
    """
    found: dict[str, Any] = {}
    for base in layer.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())
        for parameter in parameters[1:]:
            if parameter.kind not in (
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.VAR_KEYWORD,
            ):
                found.setdefault(parameter.name, parameter.default)
        passes_on = any(
            p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters
        )
        if base is keras.layers.Layer or not passes_on:
            break
    # Keras does not write it into the configuration.
    found.pop("autocast", None)
    return found


def regularizer(kind: str, **config: float) -> dict[str, Any]:
    """Return the configuration of a regularizer.

    To make one computes, and a process whose backend has computed cannot be
    forked, as `mutants.py` does.
    """
    return {"class_name": kind, "config": config}


def every_argument(
    layer: type, shape: tuple[int, ...] = IMAGE, **arguments: Any
) -> Row:
    """Return a row that sets each of the layer's arguments.

    Arguments that many layers share have the values here; booleans are the
    opposite of their default.
    """
    shared = {
        "activity_regularizer": regularizer("L2", l2=0.03),
        "bias_constraint": keras.constraints.NonNeg(),
        "bias_initializer": keras.initializers.RandomNormal(0.2, 0.1, seed=5),
        "bias_regularizer": regularizer("L1", l1=0.02),
        "data_format": "channels_first",
        "dtype": "mixed_float16",
        "gamma_initializer": keras.initializers.RandomNormal(0.5, 0.1, seed=6),
        "kernel_constraint": keras.constraints.MaxNorm(0.4),
        "kernel_initializer": keras.initializers.RandomNormal(0.1, 0.3, seed=7),
        "kernel_regularizer": regularizer("L1L2", l1=0.01, l2=0.02),
        "name": "other",
        "seed": 11,
        "trainable": False,
    }
    for name, default in constructor_arguments(layer).items():
        if isinstance(default, bool):
            shared.setdefault(name, not default)
    known = constructor_arguments(layer)
    chosen = {name: v for name, v in shared.items() if name in known}
    return Row(
        layer,
        chosen | arguments,
        shape,
        variant="every-argument",
        make=blend_in if layer is ka.BlendIn else None,
    )


# Each sets everything at once. What is checked of them is how a layer is
# rebuilt from its configuration, not what it computes.
EVERY_ARGUMENT = [
    every_argument(ka.AdditiveAttention, SEQUENCE, units=7, dropout=0.4),
    every_argument(ka.AttentionGate, units=5, sub_sampling=3),
    every_argument(ka.AttentionPooling1D, SEQUENCE, units=7, use_bias=True),
    every_argument(
        ka.AttentionPooling2D,
        output_dim=7,
        num_heads=2,
        position_initializer=keras.initializers.RandomNormal(0, 1, seed=3),
    ),
    every_argument(
        ka.AxialAttention,
        num_heads=2,
        axes=("width", "height"),
        combine="add",
        use_bias=True,
    ),
    every_argument(ka.BAM, ratio=4, dilation=2, combine="add"),
    every_argument(ka.BlendIn),
    every_argument(
        ka.BottleneckAttention,
        filters=12,
        num_heads=2,
        position_initializer=keras.initializers.RandomNormal(0, 1, seed=3),
    ),
    every_argument(
        ka.CBAM,
        ratio=4,
        pool_types=("max", "lse"),
        kernel_size=3,
        use_spatial=True,
    ),
    every_argument(ka.ChannelAttention, ratio=4, pool_types=("avg", "lp")),
    every_argument(
        ka.ChannelGSoP,
        reduced_channels=5,
        expansion=3,
        strides=2,
        activation="tanh",
    ),
    every_argument(ka.ConcurrentSqueezeExcite, ratio=4, combine="add"),
    every_argument(
        ka.ContextualTransformer,
        kernel_size=5,
        groups=2,
        shared_channels=4,
        ratio=4,
        fusion_ratio=2,
        min_units=4,
    ),
    every_argument(
        ka.CoordinateAttention, ratio=2, min_units=3, activation="tanh"
    ),
    every_argument(ka.CovariancePooling, reduced_channels=7, iterations=2),
    every_argument(
        ka.CrissCrossAttention,
        recurrence=1,
        reduced_channels=3,
        scale_initializer=keras.initializers.RandomNormal(1, 0.1, seed=3),
    ),
    every_argument(
        ka.DifferentialAttention,
        SEQUENCE,
        num_heads=4,
        key_dim=6,
        num_kv_heads=2,
        output_dim=9,
        depth=3,
        lambda_init=0.4,
        dropout=0.4,
        window=3,
        positions=positions.RelativeBias(4, 9),
        logit_soft_cap=2.0,
        epsilon=0.1,
        lambda_initializer=keras.initializers.RandomNormal(0.5, 0.1, seed=3),
    ),
    every_argument(ka.DoubleAttention, gathered_channels=5, num_descriptors=3),
    every_argument(
        ka.DualAttention,
        reduced_channels=3,
        branches=("position",),
        scale_initializer=keras.initializers.RandomNormal(1, 0.1, seed=3),
    ),
    every_argument(
        ka.DynamicConv1D,
        SEQUENCE,
        num_heads=3,
        kernel_size=4,
        weight_softmax=True,
        weight_dropout=0.4,
    ),
    every_argument(ka.EffectiveSqueezeExcite),
    every_argument(
        ka.EfficientChannelAttention,
        kernel_size=5,
        gamma=1,
        beta=3,
        padding="circular",
    ),
    every_argument(
        ka.EfficientMultiScaleAttention,
        groups=4,
        epsilon=0.5,
        beta_initializer=keras.initializers.RandomNormal(0, 1, seed=1),
    ),
    every_argument(ka.ExternalAttention, memory_size=7),
    every_argument(
        ka.FrequencyChannelAttention,
        (2, 8, 9, 32),
        ratio=4,
        frequencies=[[0, 0], [2, 6]],
        grid_size=7,
    ),
    every_argument(
        ka.GatedConvolutionBlock,
        SEQUENCE,
        num_heads=3,
        kernel_size=4,
        convolution="dynamic",
        weight_softmax=True,
        weight_dropout=0.4,
        shared_dropout=True,
        input_dropout=0.3,
        dropout=0.2,
        use_bias=True,
    ),
    every_argument(
        ka.GatedChannelTransformation,
        norm="l1",
        epsilon=0.1,
        alpha_initializer=keras.initializers.RandomNormal(1, 0.1, seed=1),
        beta_initializer=keras.initializers.RandomNormal(1, 0.1, seed=2),
    ),
    every_argument(
        ka.GatedDeltaNet,
        SEQUENCE,
        num_heads=3,
        key_dim=4,
        value_dim=5,
        kernel_size=3,
        epsilon=0.1,
    ),
    every_argument(
        ka.GatedLinearAttention,
        SEQUENCE,
        num_heads=3,
        key_dim=4,
        value_dim=5,
        gate_rank=3,
        gate_divisor=2.0,
        epsilon=0.1,
    ),
    every_argument(ka.GatherExcite, extent=2, ratio=4),
    every_argument(
        ka.GlobalContext,
        ratio=4,
        fusion="multiply",
        output_initializer=keras.initializers.RandomNormal(seed=3),
    ),
    every_argument(
        ka.GSoP,
        reduced_channels=5,
        expansion=3,
        strides=2,
        grid_size=2,
        fusion="max",
        activation="tanh",
    ),
    every_argument(
        ka.LargeKernelAttention,
        kernel_size=3,
        dilated_kernel_size=5,
        dilation=2,
        depthwise_initializer=keras.initializers.RandomNormal(0, 1, seed=1),
    ),
    every_argument(
        ka.HaloAttention,
        filters=12,
        block_size=(4, 3),
        halo_size=(1, 2),
        num_heads=4,
        key_dim=5,
        position_initializer=keras.initializers.RandomNormal(0, 1, seed=3),
    ),
    every_argument(ka.Involution, kernel_size=3, group_channels=4, ratio=2),
    every_argument(
        ka.LightweightConv1D,
        SEQUENCE,
        num_heads=3,
        kernel_size=4,
        weight_softmax=True,
        weight_dropout=0.4,
    ),
    every_argument(
        ka.LinearAttention,
        SEQUENCE,
        num_heads=3,
        key_dim=4,
        value_dim=5,
        use_bias=True,
    ),
    every_argument(
        ka.LuongAttention, SEQUENCE, score="concat", units=7, dropout=0.4
    ),
    every_argument(
        ka.MultiHeadAttention,
        SEQUENCE,
        num_heads=4,
        key_dim=6,
        value_dim=5,
        num_kv_heads=2,
        output_shape=(9, 2),
        attention_axes=(1,),
        sliding_window=2,
        use_bias=True,
        dropout=0.4,
        window=3,
        positions=positions.Rotary(
            "half", 0.7, 20.0, positions.YaRNScaling(2.0, 64)
        ),
        logit_soft_cap=2.0,
        flash_attention=False,
    ),
    every_argument(
        ka.MultiHeadLatentAttention,
        SEQUENCE,
        num_heads=4,
        key_dim=6,
        rotary_dim=4,
        value_dim=5,
        latent_dim=7,
        query_latent_dim=8,
        output_dim=9,
        dropout=0.4,
        window=3,
        positions=positions.Rotary("half", 0.5, 20.0),
        logit_soft_cap=2.0,
        epsilon=0.1,
    ),
    every_argument(
        ka.NonLocal,
        reduced_channels=5,
        mode="dot_product",
        use_scale=True,
    ),
    every_argument(ka.PolarizedSelfAttention, layout="sequential"),
    every_argument(ka.PoolingByMultiheadAttention, SEQUENCE, num_heads=3),
    every_argument(
        ka.PositionGSoP, reduced_channels=5, expansion=3, grid_size=2
    ),
    every_argument(
        ka.Retention,
        SEQUENCE,
        num_heads=3,
        key_dim=4,
        value_dim=5,
        max_wavelength=20.0,
        epsilon=0.1,
    ),
    every_argument(
        ka.ScaledDotProductAttention,
        SEQUENCE,
        scale=0.5,
        dropout=0.4,
        window=3,
        logit_soft_cap=2.0,
        attention_axes=(1,),
    ),
    every_argument(
        ka.SelectiveKernel,
        filters=24,
        dilations=(1, 3),
        strides=2,
        groups=8,
        ratio=2,
        min_units=4,
    ),
    every_argument(
        ka.ShuffleAttention,
        groups=2,
        epsilon=0.5,
        scale_initializer=keras.initializers.RandomNormal(0, 1, seed=1),
        beta_initializer=keras.initializers.RandomNormal(0, 1, seed=2),
    ),
    every_argument(ka.SimAM, regularization=0.3),
    every_argument(ka.SpatialAttention, kernel_size=3),
    every_argument(
        ka.SpatialGroupwiseEnhance,
        groups=4,
        epsilon=0.5,
        scale_initializer=keras.initializers.RandomNormal(0, 1, seed=1),
    ),
    every_argument(ka.OutlookAttention, num_heads=4, kernel_size=5, strides=3),
    every_argument(
        ka.PyramidSqueezeAttention,
        filters=12,
        kernel_sizes=(5, 1, 3),
        groups=(2, 1, 4),
        strides=2,
        ratio=2,
    ),
    every_argument(ka.SpatialSqueezeExcite),
    every_argument(
        ka.SplitAttention,
        filters=24,
        kernel_size=5,
        strides=2,
        dilation=3,
        groups=2,
        radix=4,
        ratio=2,
        min_units=4,
    ),
    every_argument(
        ka.SqueezeExcite,
        ratio=4,
        hidden_units=3,
        divisor=2,
        use_bias=True,
        activation="tanh",
        gate_activation="hard_sigmoid",
    ),
    every_argument(ka.StyleRecalibration),
    every_argument(ka.TripletAttention, kernel_size=3),
    every_argument(
        ka.WindowAttention,
        window_size=(4, 3),
        shift_size=(1, 1),
        num_heads=4,
        table_initializer=keras.initializers.RandomNormal(0.5, 0.1, seed=3),
    ),
]

# Of each row's output, a weighted sum; see `test_output_is_the_recorded_one`.
OUTPUTS: dict[str, float] = {
    "AdditiveAttention": 0.0256285,
    "AdditiveAttention-units": -0.0786776,
    "AttentionGate": 0.537525,
    "AttentionGate-volume": 0.657614,
    "AttentionPooling1D": -0.474102,
    "AttentionPooling1D-units": -0.250463,
    "AttentionPooling2D": 1.18215,
    "AxialAttention": -11.2489,
    "BAM": 1.83965,
    "BAM-add": 2.115,
    "BlendIn": 1.09842,
    "BottleneckAttention": -2.53968,
    "CBAM": 0.613907,
    "CBAM-channel": 1.13074,
    "CBAM-gamma": 0.769783,
    "ChannelAttention": 1.08686,
    "ChannelAttention-pools": 1.12972,
    "ChannelGSoP": 0.721119,
    "ChannelGSoP-strides": 0.690642,
    "ConcurrentSqueezeExcite": 0.965527,
    "ConcurrentSqueezeExcite-add": 1.31671,
    "ContextualTransformer": -0.0388103,
    "CoordinateAttention": 0.394353,
    "CoordinateAttention-relu": 0.318808,
    "CovariancePooling": 0.0710356,
    "CovariancePooling-plain": 0.0860789,
    "CrissCrossAttention": 1.63443,
    "DifferentialAttention": -0.107118,
    "DifferentialAttention-causal-rotary": 0.116533,
    "DoubleAttention": 0.759385,
    "DualAttention": 2.55013,
    "DynamicConv1D": -0.451747,
    "DynamicConv1D-causal": -1.09678,
    "DynamicConv1D-linear": 0.0301447,
    "EffectiveSqueezeExcite": 0.645489,
    "EfficientChannelAttention": 0.621805,
    "EfficientChannelAttention-own": 0.597127,
    "EfficientChannelAttention-circular": 0.618974,
    "EfficientMultiScaleAttention": 0.630712,
    "ExternalAttention": 2.03737,
    "FrequencyChannelAttention": 0.812197,
    "GatedConvolutionBlock": -0.210279,
    "GatedConvolutionBlock-dynamic": 4.16635,
    "GatedChannelTransformation": 1.1144,
    "GatedChannelTransformation-l1": 1.05087,
    "GatedDeltaNet": 0.348985,
    "GatedDeltaNet-widths": 0.565998,
    "GatedLinearAttention": 0.00805797,
    "GatedLinearAttention-widths": 0.137815,
    "GatherExcite": 0.635879,
    "GatherExcite-local": 0.706241,
    "GatherExcite-blocks": 0.556519,
    "GatherExcite-learned": 0.606018,
    "GatherExcite-plus": 0.569893,
    "GatherExcite-global": 0.750533,
    "GatherExcite-global-plus": 0.926739,
    "GatherExcite-excite": 0.592417,
    "GlobalContext": 1.13265,
    "GlobalContext-multiply": 0.605608,
    "GSoP": 0.901552,
    "GSoP-add": 1.80424,
    "GSoP-max": 1.32517,
    "GSoP-concat": 2.02076,
    "LargeKernelAttention": 0.181667,
    "LargeKernelAttention-small": -0.254013,
    "HaloAttention": -1.99067,
    "HaloAttention-zeros": 0.459501,
    "Involution": 3.04736,
    "LightweightConv1D": -0.258416,
    "LightweightConv1D-causal": -0.514599,
    "LightweightConv1D-linear": 0.265575,
    "LinearAttention": -0.587302,
    "LinearAttention-causal": -0.651194,
    "LuongAttention": 1.05988,
    "LuongAttention-general": -1.19431,
    "LuongAttention-concat": 0.020441,
    "MultiHeadAttention": -1.59284,
    "MultiHeadAttention-causal-window": 0.707466,
    "MultiHeadAttention-grouped-rotary": 1.09549,
    "MultiHeadAttention-partial-rotary": 1.35855,
    "MultiHeadAttention-multi-query-alibi": -0.229521,
    "MultiHeadAttention-relative": -2.52229,
    "MultiHeadAttention-qk-norm-cap": -1.11685,
    "MultiHeadAttention-talking-heads": -0.24134,
    "MultiHeadAttention-sink-tokens": 0.514101,
    "MultiHeadAttention-gate": 0.356874,
    "MultiHeadAttention-axes": -0.605778,
    "MultiHeadAttention-widths-dropout": -0.79242,
    "MultiHeadLatentAttention": 0.533042,
    "MultiHeadLatentAttention-causal-widths": 0.482382,
    "NonLocal": -2.53615,
    "NonLocal-gaussian": 2.29262,
    "NonLocal-dot_product": -0.118535,
    "NonLocal-concatenation": 3.70671,
    "PolarizedSelfAttention": 1.34876,
    "PolarizedSelfAttention-sequential": 0.346275,
    "PoolingByMultiheadAttention": 0.0178118,
    "PoolingByMultiheadAttention-seeds": 1.07215,
    "PositionGSoP": 1.512,
    "PositionGSoP-coarse": 0.894261,
    "Retention": -2.2007,
    "Retention-widths": -0.20012,
    "ScaledDotProductAttention": 0.716232,
    "ScaledDotProductAttention-options": 0.817417,
    "ScaledDotProductAttention-concat": 0.124384,
    "ScaledDotProductAttention-axes": 0.341769,
    "SelectiveKernel": -0.118519,
    "SelectiveKernel-strides": 0.00429218,
    "SelectiveKernel-branches": 1.17156,
    "ShuffleAttention": 0.314303,
    "ShuffleAttention-64-groups": 0.310908,
    "SimAM": 0.823533,
    "SimAM-regularization": 0.822734,
    "SpatialAttention": 0.333456,
    "SpatialAttention-gamma": 0.544334,
    "OutlookAttention": 1.49011,
    "OutlookAttention-every-position": -6.87301,
    "PyramidSqueezeAttention": -2.53864,
    "SpatialGroupwiseEnhance": 0.546073,
    "SpatialSqueezeExcite": 0.236826,
    "SplitAttention": 0.218175,
    "SplitAttention-radix-1": 0.0489703,
    "SqueezeExcite": 0.605779,
    "SqueezeExcite-divisor": 0.669769,
    "StyleRecalibration": 0.71645,
    "TripletAttention": 0.604082,
    "TripletAttention-channel": 0.596446,
    "WindowAttention": 1.75979,
    "CBAM-sequence": -0.0219885,
    "ChannelAttention-sequence": -0.0503498,
    "ChannelAttention-sequence-pools": -0.487993,
    "ConcurrentSqueezeExcite-sequence": 0.539505,
    "EffectiveSqueezeExcite-sequence": 0.571181,
    "EfficientChannelAttention-sequence": 0.519664,
    "GatedChannelTransformation-sequence": 1.22879,
    "GlobalContext-sequence": 0.318615,
    "NonLocal-sequence": 0.92818,
    "NonLocal-sequence-concatenation": 1.21453,
    "SimAM-sequence": 0.704389,
    "SpatialAttention-sequence": 0.579385,
    "SpatialSqueezeExcite-sequence": 0.0485468,
    "SqueezeExcite-sequence": 0.515555,
    "CBAM-volume": 0.165195,
    "ConcurrentSqueezeExcite-volume": 0.462789,
    "GlobalContext-volume": 0.693524,
    "NonLocal-volume": 0.998499,
    "SimAM-volume": 0.40893,
    "SqueezeExcite-volume": 0.347698,
}
