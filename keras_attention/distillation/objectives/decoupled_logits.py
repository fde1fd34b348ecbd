from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.losses import decoupled_distance
from keras_attention.distillation.objectives.logits import Logits
from keras_attention.distillation.objectives.output_losses import CATEGORICAL
from keras_attention.distillation.objectives.output_values import labels_like
from keras_attention.validation import check_number


@keras.saving.register_keras_serializable(package="keras_attention")
class DecoupledLogits(Logits):
    """Decoupled knowledge distillation (DKD) of class probabilities.

    T² (α KL(b_T || b_S) + β KL(p_T || p_S)), where b is the probability of
    the labeled class against all others, and p the probabilities of the
    other classes alone. It needs labels; those of the
    loss's `ignore_class` are left out. The loss of the labels is added without
    a factor, as in the authors' code.

    Args:
        weight: Factor of the loss: a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1.
        target_weight: α, of the labeled class. Defaults to 1.
        non_target_weight: β, of the other classes. Defaults to 8, the
            authors' for CIFAR-100.
        temperature: T, by which logits are divided. Defaults to 4.
        layers: See `Logits`. Defaults to `None`.
        resize_outputs: See `Logits`. Defaults to `False`.
        name: Name of the objective. Defaults to `"decoupled"`.

    Source: Zhao et al., arXiv:2203.08679, equation 7.

    Example:

    >>> from keras_attention.distillation import DecoupledLogits
    >>> DecoupledLogits(non_target_weight=2.0).loss_name
    'decoupled_loss'
    """

    replaces_labels = False
    needs_labels = True

    def __init__(
        self,
        weight: Any = 1.0,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        temperature: float = 4.0,
        layers: str | Sequence[Any] | None = None,
        resize_outputs: bool = False,
        name: str = "decoupled",
    ):
        super().__init__(
            weight, temperature, layers, CATEGORICAL, resize_outputs, name
        )
        self.target_weight = check_number("target_weight", target_weight, 0)
        self.non_target_weight = check_number(
            "non_target_weight", non_target_weight, 0
        )

    def distance(self, kind: str, student: Any, teacher: Any, labels: Any):
        if labels is None:
            raise ValueError(
                "Decoupled distillation needs the labels of its output. "
                "Received: data without labels. Use Logits for these."
            )
        return decoupled_distance(
            student,
            teacher,
            _one_hot(labels, student),
            self.target_weight,
            self.non_target_weight,
            self.temperature,
        )

    def get_config(self):
        config = super().get_config()
        config.pop("kind")
        return {
            **config,
            "target_weight": self.target_weight,
            "non_target_weight": self.non_target_weight,
        }


def _one_hot(labels, logits):
    labels = ops.convert_to_tensor(labels)
    classes = logits.shape[-1]
    if len(labels.shape) == len(logits.shape) and labels.shape[-1] == classes:
        labels = ops.argmax(labels, axis=-1)
    else:
        labels = labels_like(labels, logits)
    return ops.one_hot(ops.cast(labels, "int32"), classes, dtype=logits.dtype)
