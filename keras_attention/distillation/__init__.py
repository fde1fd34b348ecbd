"""Trains a small model with the attention and the outputs of a large one."""

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
    bernoulli_distance as bernoulli_distance,
)
from keras_attention.distillation.losses import (
    decoupled_distance as decoupled_distance,
)
from keras_attention.distillation.losses import (
    distillation_distance as distillation_distance,
)
from keras_attention.distillation.losses import (
    relation_distance as relation_distance,
)
from keras_attention.distillation.losses import (
    relation_scores as relation_scores,
)
from keras_attention.distillation.losses import (
    scores_distance as scores_distance,
)
from keras_attention.distillation.objectives.attention_copy import (
    AttentionCopy as AttentionCopy,
)
from keras_attention.distillation.objectives.attention_maps import (
    AttentionMaps as AttentionMaps,
)
from keras_attention.distillation.objectives.attention_scores import (
    AttentionScores as AttentionScores,
)
from keras_attention.distillation.objectives.decoupled_logits import (
    DecoupledLogits as DecoupledLogits,
)
from keras_attention.distillation.objectives.features import (
    Features as Features,
)
from keras_attention.distillation.objectives.input_gradients import (
    FlipSymmetry as FlipSymmetry,
)
from keras_attention.distillation.objectives.input_gradients import (
    InputGradients as InputGradients,
)
from keras_attention.distillation.objectives.logits import Logits as Logits
from keras_attention.distillation.objectives.objective import (
    Objective as Objective,
)
from keras_attention.distillation.objectives.relations import (
    Relations as Relations,
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
