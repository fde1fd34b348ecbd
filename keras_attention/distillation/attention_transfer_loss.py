from typing import Any

import keras

from keras_attention.distillation.losses import REDUCTIONS
from keras_attention.distillation.losses import attention_distance
from keras_attention.inspection import find_layer
from keras_attention.ops.attention_maps import MAP_FUNCTIONS
from keras_attention.ops.attention_maps import activation_maps
from keras_attention.ops.attention_maps import flat_maps
from keras_attention.ops.attention_maps import smaller_maps
from keras_attention.validation import check_choice
from keras_attention.validation import check_data_format
from keras_attention.validation import check_number


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionTransferLoss(
    keras.losses.Loss, keras.distillation.DistillationLoss
):
    """The distance of two attention maps as a loss of two activations.

    `loss(teacher_activation, student_activation)` is the loss that
    `AttentionTransferModel` sums over its pairs, of one pair and without its
    `beta`. With layer names, it is also a distillation loss of
    `keras.distillation.Distiller`, whose `distillation_loss_weights` are the
    place for `beta`. `AttentionTransferModel` does the same in less time, and
    right where the Distiller is not.

    Args:
        power: p of the map function |A|^p, at least 1.
        map_function: `"sum"` or `"max"` over channels.
        distance: `"mean"`, `"sum"` or `"paper"`: the `reduction` of
            `AttentionTransferModel`.
        data_format: Layout of activations of rank 4: `"channels_last"`,
            `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        teacher_layer_name: the teacher's layer, for the Distiller.
        student_layer_name: the student's layer, for the Distiller.
        reduction: how the losses of the examples are put together; see
            `keras.losses.Loss`.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments:
        y_true: activation of the teacher, `(batch, ..., channels)`.
        y_pred: activation of the student, of the same rank; the number of
            channels and of positions may differ.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range, or
            activations of different rank.

    Reference:
        Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR
        2017, arXiv:1612.03928, equation 2.

    Example:

    >>> loss = keras_attention.distillation.AttentionTransferLoss(
    ...     distance="sum"
    ... )
    >>> teacher = np.eye(4, dtype="float32").reshape(1, 4, 4, 1)
    >>> student = 7 * np.concatenate([teacher, teacher], axis=-1)
    >>> float(loss(teacher, student))
    0.0
    >>> float(loss(teacher, student[:, ::-1]))
    2.0
    """

    def __init__(
        self,
        power: float = 2,
        map_function: str = "sum",
        distance: str = "mean",
        data_format: str | None = None,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        reduction: str = "sum_over_batch_size",
        name: str = "attention_transfer",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.power = check_number("power", power, 1)
        self.map_function = check_choice(
            "map_function", map_function, MAP_FUNCTIONS
        )
        self.distance = check_choice("distance", distance, REDUCTIONS)
        self.data_format = check_data_format(data_format)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name

    def call(self, y_true: Any, y_pred: Any):
        self.validate_outputs(y_true, y_pred)
        student, teacher = smaller_maps(self._maps(y_pred), self._maps(y_true))
        return attention_distance(
            flat_maps(student), flat_maps(teacher), self.distance
        )

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any
    ):
        """The loss as the Distiller asks for it."""
        return self(teacher_outputs, student_outputs)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any):
        """Check that two activations have maps of one rank.

        Raises:
            ValueError: If they have not, or no positions at all.
        """
        shapes = [tuple(x.shape) for x in (teacher_outputs, student_outputs)]
        if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 3:
            raise ValueError(
                "Attention transfer compares activations of one rank, "
                "(batch, positions, ..., channels). Received: a teacher's of "
                f"shape {shapes[0]}, a student's of shape {shapes[1]}"
            )

    def validate_model_compatibility(self, teacher: Any, student: Any):
        """Check that the layers named exist; the nearest are offered.

        Raises:
            ValueError: If one does not.
        """
        for model, name in (
            (teacher, self.teacher_layer_name),
            (student, self.student_layer_name),
        ):
            if name is not None:
                find_layer(model, name)

    def get_config(self):
        return {
            **super().get_config(),
            "power": self.power,
            "map_function": self.map_function,
            "distance": self.distance,
            "data_format": self.data_format,
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
        }

    def _maps(self, activation):
        first = self.data_format == "channels_first"
        axis = 1 if first and len(activation.shape) > 3 else -1
        return activation_maps(activation, self.map_function, self.power, axis)
