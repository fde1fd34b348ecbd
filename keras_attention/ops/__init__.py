"""The mathematics: pure functions on tensors, without weights or state."""

# Sequences.
from keras_attention.ops.attention.positions import (
    rotary_embedding as rotary_embedding,
)
from keras_attention.ops.attention.scaled_dot_product import (
    explain_attention as explain_attention,
)
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention as scaled_dot_product_attention,
)
from keras_attention.ops.attention.scores import (
    additive_scores as additive_scores,
)

# Images.
from keras_attention.ops.image.channel_norms import (
    channel_norms as channel_norms,
)
from keras_attention.ops.image.covariance import (
    channel_covariance as channel_covariance,
)
from keras_attention.ops.image.covariance import (
    newton_schulz_square_root as newton_schulz_square_root,
)
from keras_attention.ops.image.covariance import (
    position_covariance as position_covariance,
)
from keras_attention.ops.image.criss_cross import (
    criss_cross_attention as criss_cross_attention,
)
from keras_attention.ops.image.gating import apply_gate as apply_gate
from keras_attention.ops.image.gating import (
    global_average_pool as global_average_pool,
)
from keras_attention.ops.image.grid_pooling import (
    adaptive_average_pool as adaptive_average_pool,
)
from keras_attention.ops.image.grid_pooling import (
    local_average_pool as local_average_pool,
)
from keras_attention.ops.image.pairwise import softmax_pool as softmax_pool
from keras_attention.ops.image.pooling import (
    global_log_sum_exp_pool as global_log_sum_exp_pool,
)
from keras_attention.ops.image.pooling import global_lp_pool as global_lp_pool
from keras_attention.ops.image.pooling import global_max_pool as global_max_pool
from keras_attention.ops.image.simam import simam as simam
from keras_attention.ops.sequence.gated_delta_rule import (
    gated_delta_rule as gated_delta_rule,
)
from keras_attention.ops.sequence.head_convolution import (
    dynamic_convolution as dynamic_convolution,
)
from keras_attention.ops.sequence.head_convolution import (
    lightweight_convolution as lightweight_convolution,
)
from keras_attention.ops.sequence.linear_attention import (
    gated_linear_attention as gated_linear_attention,
)
from keras_attention.ops.sequence.linear_attention import (
    linear_attention as linear_attention,
)
from keras_attention.ops.sequence.linear_attention import retention as retention
