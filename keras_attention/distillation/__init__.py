"""Teaches a small model by the attention of a big one."""

from keras_attention.distillation.attention_transfer_loss import (
    AttentionTransferLoss as AttentionTransferLoss,
)
from keras_attention.distillation.attention_transfer_model import (
    AttentionTransferModel as AttentionTransferModel,
)
from keras_attention.distillation.losses import (
    attention_distance as attention_distance,
)
from keras_attention.distillation.losses import (
    distillation_distance as distillation_distance,
)
from keras_attention.distillation.pairs import Pair as Pair
from keras_attention.distillation.pairs import Pairs as Pairs
from keras_attention.distillation.precompute_teacher import (
    precompute_teacher as precompute_teacher,
)
from keras_attention.distillation.precomputed_dataset import (
    PrecomputedDataset as PrecomputedDataset,
)
from keras_attention.ops.attention_maps import (
    activation_maps as activation_maps,
)
from keras_attention.ops.attention_maps import max_map as max_map
from keras_attention.ops.attention_maps import score_maps as score_maps
from keras_attention.ops.attention_maps import sum_map as sum_map
from keras_attention.ops.attention_maps import unit_maps as unit_maps
