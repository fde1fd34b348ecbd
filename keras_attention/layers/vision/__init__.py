"""Layers that take an image."""

from typing import TYPE_CHECKING

from keras_attention.layers.vision.attention_gate import (
    AttentionGate as AttentionGate,
)
from keras_attention.layers.vision.attention_pooling_2d import (
    AttentionPooling2D as AttentionPooling2D,
)
from keras_attention.layers.vision.axial_attention import (
    AxialAttention as AxialAttention,
)
from keras_attention.layers.vision.bam import BAM as BAM
from keras_attention.layers.vision.bottleneck_attention import (
    BottleneckAttention as BottleneckAttention,
)
from keras_attention.layers.vision.cbam import CBAM as CBAM
from keras_attention.layers.vision.channel_attention import (
    ChannelAttention as ChannelAttention,
)
from keras_attention.layers.vision.channel_gsop import (
    ChannelGSoP as ChannelGSoP,
)
from keras_attention.layers.vision.concurrent_squeeze_excite import (
    ConcurrentSqueezeExcite as ConcurrentSqueezeExcite,
)
from keras_attention.layers.vision.contextual_transformer import (
    ContextualTransformer as ContextualTransformer,
)
from keras_attention.layers.vision.coordinate_attention import (
    CoordinateAttention as CoordinateAttention,
)
from keras_attention.layers.vision.covariance_pooling import (
    CovariancePooling as CovariancePooling,
)
from keras_attention.layers.vision.criss_cross_attention import (
    CrissCrossAttention as CrissCrossAttention,
)
from keras_attention.layers.vision.double_attention import (
    DoubleAttention as DoubleAttention,
)
from keras_attention.layers.vision.dual_attention import (
    DualAttention as DualAttention,
)
from keras_attention.layers.vision.effective_squeeze_excite import (
    EffectiveSqueezeExcite as EffectiveSqueezeExcite,
)
from keras_attention.layers.vision.efficient_channel_attention import (
    EfficientChannelAttention as EfficientChannelAttention,
)
from keras_attention.layers.vision.efficient_multi_scale_attention import (
    EfficientMultiScaleAttention as EfficientMultiScaleAttention,
)
from keras_attention.layers.vision.external_attention import (
    ExternalAttention as ExternalAttention,
)
from keras_attention.layers.vision.frequency_channel_attention import (
    FrequencyChannelAttention as FrequencyChannelAttention,
)
from keras_attention.layers.vision.gated_channel_transformation import (
    GatedChannelTransformation as GatedChannelTransformation,
)
from keras_attention.layers.vision.gather_excite import (
    GatherExcite as GatherExcite,
)
from keras_attention.layers.vision.global_context import (
    GlobalContext as GlobalContext,
)
from keras_attention.layers.vision.gsop import GSoP as GSoP
from keras_attention.layers.vision.halo_attention import (
    HaloAttention as HaloAttention,
)
from keras_attention.layers.vision.involution import Involution as Involution
from keras_attention.layers.vision.large_kernel_attention import (
    LargeKernelAttention as LargeKernelAttention,
)
from keras_attention.layers.vision.non_local import NonLocal as NonLocal
from keras_attention.layers.vision.outlook_attention import (
    OutlookAttention as OutlookAttention,
)
from keras_attention.layers.vision.polarized_self_attention import (
    PolarizedSelfAttention as PolarizedSelfAttention,
)
from keras_attention.layers.vision.position_gsop import (
    PositionGSoP as PositionGSoP,
)
from keras_attention.layers.vision.pyramid_squeeze_attention import (
    PyramidSqueezeAttention as PyramidSqueezeAttention,
)
from keras_attention.layers.vision.selective_kernel import (
    SelectiveKernel as SelectiveKernel,
)
from keras_attention.layers.vision.shuffle_attention import (
    ShuffleAttention as ShuffleAttention,
)
from keras_attention.layers.vision.simam import SimAM as SimAM
from keras_attention.layers.vision.spatial_attention import (
    SpatialAttention as SpatialAttention,
)
from keras_attention.layers.vision.spatial_groupwise_enhance import (
    SpatialGroupwiseEnhance as SpatialGroupwiseEnhance,
)
from keras_attention.layers.vision.spatial_squeeze_excite import (
    SpatialSqueezeExcite as SpatialSqueezeExcite,
)
from keras_attention.layers.vision.split_attention import (
    SplitAttention as SplitAttention,
)
from keras_attention.layers.vision.squeeze_excite import (
    SqueezeExcite as SqueezeExcite,
)
from keras_attention.layers.vision.style_recalibration import (
    StyleRecalibration as StyleRecalibration,
)
from keras_attention.layers.vision.triplet_attention import (
    TripletAttention as TripletAttention,
)
from keras_attention.layers.vision.window_attention import (
    WindowAttention as WindowAttention,
)

if not TYPE_CHECKING:
    # The classes, and not the modules that they are in.
    __all__ = [
        name for name, value in vars().items() if isinstance(value, type)
    ]
