"""All image layers at one shape, against compositions of Keras' layers.

`docs/choosing.md` has their times relative to the floor.
"""

import functools

import keras_attention as ka
from benchmarks.harness.cases import GRAPH
from benchmarks.harness.cases import PASSES
from benchmarks.harness.comparison import Subject
from benchmarks.harness.comparison import compare
from benchmarks.harness.report import Table
from benchmarks.peers import naive

TITLE = "Image layers"
SHAPE = (8, 32, 32, 128)
# Norms over a small batch make more of it.
ROUNDING = 5e-3
SUBJECTS = {
    "SqueezeExcite": Subject(ka.SqueezeExcite, {"naive": naive.squeeze_excite}),
    "EfficientChannelAttention": Subject(
        ka.EfficientChannelAttention,
        {"naive": naive.efficient_channel_attention},
    ),
    "EffectiveSqueezeExcite": Subject(
        ka.EffectiveSqueezeExcite,
        {"naive": naive.effective_squeeze_excite},
        ("kecam",),
    ),
    "SpatialSqueezeExcite": Subject(
        ka.SpatialSqueezeExcite, {"naive": naive.spatial_squeeze_excite}
    ),
    "ConcurrentSqueezeExcite": Subject(
        ka.ConcurrentSqueezeExcite, {"naive": naive.concurrent_squeeze_excite}
    ),
    "GatedChannelTransformation": Subject(
        ka.GatedChannelTransformation,
        {"naive": naive.gated_channel_transformation},
    ),
    "GatherExcite": Subject(ka.GatherExcite, {"naive": naive.gather_excite}),
    "CBAM": Subject(ka.CBAM, {"naive": naive.cbam}),
    "ChannelAttention": Subject(
        ka.ChannelAttention, {"naive": naive.channel_attention}
    ),
    "SpatialAttention": Subject(
        ka.SpatialAttention, {"naive": naive.spatial_attention}
    ),
    "BAM": Subject(ka.BAM, {"naive": naive.bam}),
    "PositionGSoP": Subject(ka.PositionGSoP, {"naive": naive.position_gsop}),
    "GSoP": Subject(ka.GSoP, {"naive": naive.gsop}),
    "CoordinateAttention": Subject(
        ka.CoordinateAttention, {"naive": naive.coordinate_attention}
    ),
    "GlobalContext": Subject(ka.GlobalContext, {"naive": naive.global_context}),
    "GlobalContext, multiply": Subject(
        functools.partial(ka.GlobalContext, fusion="multiply"),
        {"naive": naive.global_context},
        ("kecam",),
    ),
    "SimAM": Subject(ka.SimAM, {"naive": naive.simam}),
    "TripletAttention": Subject(
        ka.TripletAttention, {"naive": naive.triplet_attention}
    ),
    "SelectiveKernel": Subject(
        ka.SelectiveKernel,
        {"naive": naive.selective_kernel},
        tolerance=ROUNDING,
    ),
    "NonLocal": Subject(
        ka.NonLocal, {"naive": naive.non_local}, tolerance=ROUNDING
    ),
}


def run(quick: bool = False) -> list[Table]:
    if quick:
        return [compare(SUBJECTS, (8, 16, 16, 32), 3, GRAPH, PASSES[1:])]
    return [compare(SUBJECTS, SHAPE, 5, GRAPH)]
