"""What is inside a Keras model: layers, stages and intermediate outputs."""

from keras_attention.inspection.attention_layers import (
    attention_layers as attention_layers,
)
from keras_attention.inspection.layer_list import LayerList as LayerList
from keras_attention.inspection.layer_list import LayerSummary as LayerSummary
from keras_attention.inspection.layer_list import list_layers as list_layers
from keras_attention.inspection.layer_outputs import LayerOutput as LayerOutput
from keras_attention.inspection.layer_outputs import (
    call_on_shapes as call_on_shapes,
)
from keras_attention.inspection.layer_outputs import (
    example_tensors as example_tensors,
)
from keras_attention.inspection.layer_outputs import (
    input_tensors as input_tensors,
)
from keras_attention.inspection.layer_outputs import (
    layer_outputs as layer_outputs,
)
from keras_attention.inspection.layer_paths import channel_axis as channel_axis
from keras_attention.inspection.layer_paths import find_layer as find_layer
from keras_attention.inspection.layer_paths import walk_layers as walk_layers
from keras_attention.inspection.record_outputs import (
    RecordedOutputs as RecordedOutputs,
)
from keras_attention.inspection.record_outputs import (
    gate_is_recorded as gate_is_recorded,
)
from keras_attention.inspection.record_outputs import (
    gives_scores as gives_scores,
)
from keras_attention.inspection.record_outputs import (
    read_outputs as read_outputs,
)
from keras_attention.inspection.record_outputs import (
    record_outputs as record_outputs,
)
from keras_attention.inspection.record_outputs import split_name as split_name
from keras_attention.inspection.stages import ResidualBlock as ResidualBlock
from keras_attention.inspection.stages import Stage as Stage
from keras_attention.inspection.stages import residual_blocks as residual_blocks
from keras_attention.inspection.stages import stages as stages
