import copy
from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.distillation.arguments import check_logits
from keras_attention.distillation.arguments import check_models
from keras_attention.distillation.arguments import training_policy
from keras_attention.distillation.backend import check_replicas
from keras_attention.distillation.finite_loss import FiniteLoss
from keras_attention.distillation.kept_variables import KeptVariables
from keras_attention.distillation.losses import REDUCTIONS
from keras_attention.distillation.pairs import Pairs
from keras_attention.distillation.pairs import choose_pairs
from keras_attention.distillation.precomputed import INPUTS
from keras_attention.distillation.precomputed import is_precomputed
from keras_attention.distillation.reader import Reader
from keras_attention.distillation.reader import check_inputs
from keras_attention.distillation.schedules import check_weight
from keras_attention.distillation.schedules import serialize_weight
from keras_attention.distillation.transfer_trainer import TransferTrainer
from keras_attention.ops.attention_maps import MAP_FUNCTIONS
from keras_attention.validation import check_choice
from keras_attention.validation import check_number


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionTransferModel(TransferTrainer):
    """Trains a student to have its teacher's attention maps.

    `compile`, `fit`, `evaluate` and `predict` are those of the student; `fit`
    adds to its loss

        (1 - alpha) labels + alpha T² KL(teacher || student) + beta attention

    where `attention` is the sum over pairs of layers of the distance between
    the maps of the student and of the teacher. A map is the sum over channels
    of the squared activations, flattened and scaled to length 1 for each
    example. Regularization losses and `add_loss` are added whole.

    One step runs the teacher once, in inference mode and outside the tape,
    and the student once. The teacher and everything else that is the caller's
    stays as it is, but for the student's weights. `evaluate` and `predict`
    run the student alone, and `student` is an ordinary model to save and
    export.

    What `beta` multiplies. With `reduction="mean"`, the authors' code and the
    default, it is the mean over positions of the squared difference of two
    maps of length 1, a small number: at most 2 divided by the positions, so
    0.002 for a map of 32 x 32. Hence 1e3. With `"sum"` it is between 0 and 2
    for every size of map: about `1e3 / positions` does the same for one map.
    With `"paper"` it is half the length of the difference, equation 2 with
    its factor 1/2: between 0 and 1. The paper's text says 0.1 and means
    1e3 divided by the positions and the batch.

    A sample weight, one for each example, or a class weight, counts in every
    part of the loss.

    A step whose loss or gradient is not finite updates nothing, and `fit`
    stops after it with an error that names the part.

    Args:
        student: a built model, to be trained.
        teacher: a built model that takes the same inputs; images of another
            size are resized for it. `None` to train with data of
            `precompute_teacher`.
        pairs: which layers are compared. `"blocks"`: all residual blocks of
            two networks of the same depth. `"groups"`: the ends of each
            resolution. `None`: blocks if the depths agree, else groups.
            `"scores"`: the scores of all attention layers. Or a list of
            names and of `(student, teacher)` names; `"backbone/stage2"` is a
            layer of a nested model, `"attention:scores"` are the scores of an
            attention layer. The attribute `pairs` shows the choice as a table.
        beta: weight of the attention maps: a number, or a learning rate
            schedule, called with the optimizer's iterations. The paper lets
            it decay where it is used with distillation.
        power: p of the map function |A|^p, at least 1.
        map_function: `"sum"` or `"max"` over channels.
        reduction: `"mean"`, `"sum"` or `"paper"`; see above.
        pair_weights: a factor for each pair; `None` for 1.
        alpha: weight of the teacher's outputs, between 0 and 1, or a
            schedule. 0 is attention transfer alone; Hinton's distillation
            takes 0.9.
        temperature: T of the softened outputs.
        logits: which outputs are softened: `None` for the models' outputs,
            where those of a softmax are taken back to logits by a logarithm;
            or the name, or `(student, teacher)` names, of layers that have
            the logits.
        gradient_transfer: weight of half the distance between the gradients
            of both models' losses at the inputs; needs labels, one output,
            and a second-order gradient.
        symmetry: weight of half the distance between the gradient of the
            student's loss at an image and the flipped gradient at the flipped
            image. It runs the student once more, without effect on its
            state.
        **kwargs: `name`, `dtype`. The dtype policy is the student's unless
            given.

    Raises:
        TypeError, ValueError: for arguments of the wrong type or range,
            models that are not built, that take other inputs or share no
            resolution, and layers that do not exist.

    Reference:
        Zagoruyko and Komodakis, Paying More Attention to Attention: Improving
        the Performance of Convolutional Neural Networks via Attention
        Transfer, ICLR 2017, arXiv:1612.03928; Hinton et al., Distilling the
        Knowledge in a Neural Network, 2015, arXiv:1503.02531.

    Example:

    >>> from keras_attention.models import WideResNet
    >>> teacher = WideResNet(16, 2, input_shape=(8, 8, 1))
    >>> student = WideResNet(10, 1, input_shape=(8, 8, 1))
    >>> model = keras_attention.AttentionTransferModel(student, teacher)
    >>> model.pairs
    student  map  teacher  map  weight
    stage1   8×8  stage1   8×8  1
    stage2   4×4  stage2   4×4  1
    stage3   2×2  stage3   2×2  1
    >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> x, y = np.ones((4, 8, 8, 1), "float32"), np.zeros(4, "int32")
    >>> history = model.fit(x, y, verbose=0).history
    >>> sorted(history)  # doctest: +NORMALIZE_WHITESPACE
    ['attention/stage1', 'attention/stage2', 'attention/stage3',
     'attention_loss', 'label_loss', 'loss']
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        pairs: str | Sequence[Any] | None = None,
        beta: float | keras.optimizers.schedules.LearningRateSchedule = 1e3,
        power: float = 2,
        map_function: str = "sum",
        reduction: str = "mean",
        pair_weights: Sequence[float] | None = None,
        alpha: float | keras.optimizers.schedules.LearningRateSchedule = 0.0,
        temperature: float = 4.0,
        logits: str | Sequence[str] | None = None,
        gradient_transfer: float = 0.0,
        symmetry: float = 0.0,
        **kwargs: Any,
    ):
        check_models(student, teacher)
        kwargs.setdefault("dtype", training_policy(student))
        super().__init__(**kwargs)
        self.student = student
        self.beta = check_weight("beta", beta)
        self.power = check_number("power", power, 1)
        self.map_function = check_choice(
            "map_function", map_function, MAP_FUNCTIONS
        )
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)
        self.alpha = check_weight("alpha", alpha, 1)
        self.temperature = check_number(
            "temperature", temperature, 0, exclusive_minimum=True
        )
        self.logits = check_logits(logits)
        self.gradient_transfer = check_number(
            "gradient_transfer", gradient_transfer, 0
        )
        self.symmetry = check_number("symmetry", symmetry, 0)
        self._read_both(teacher, pairs, pair_weights)
        self.make_part_trackers()
        # Built by the caller: without this, a loaded model would lose its
        # optimizer's state.
        self.built = True

    @property
    def teacher(self) -> keras.Model | None:
        """The teacher. It is no part of this model: nothing trains it."""
        reader = self._teacher_reader
        return None if reader is None else reader.model

    @property
    def pairs(self) -> Pairs:
        """The pairs of layers whose maps are compared."""
        return self._pairs

    @property
    def output_names(self) -> list[str]:
        """The names of the student's outputs."""
        return self.student.output_names

    @property
    def non_trainable_variables(self) -> list:
        """Those of the student, and all of the teacher's."""
        mine = super().non_trainable_variables
        if self.teacher is None:
            return mine
        known = {id(v) for v in self.variables}
        return mine + [v for v in self.teacher.variables if id(v) not in known]

    def call(self, inputs, training=None):
        if is_precomputed(inputs):
            inputs = inputs[INPUTS]
        return self.student(inputs, training=training)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **kwargs,
    ):
        check_replicas(self)
        kept = KeptVariables()
        own = [kept, FiniteLoss()]
        if isinstance(callbacks, keras.callbacks.CallbackList):
            for callback in own:
                callbacks.append(callback)
        else:
            callbacks = [*own, *keras.tree.flatten(callbacks or [])]
        try:
            return super().fit(
                x, y, batch_size, epochs, verbose, callbacks, **kwargs
            )
        except BaseException:
            kept.restore()
            raise

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        pairs = [[pair.student, pair.teacher] for pair in self.pairs]
        return {
            **super().get_config(),
            "student": serialize(self.student),
            "teacher": serialize(self.teacher),
            "pairs": pairs or None,
            "beta": serialize_weight(self.beta),
            "power": self.power,
            "map_function": self.map_function,
            "reduction": self.reduction,
            "pair_weights": [p.weight for p in self.pairs] or None,
            "alpha": serialize_weight(self.alpha),
            "temperature": self.temperature,
            "logits": self.logits,
            "gradient_transfer": self.gradient_transfer,
            "symmetry": self.symmetry,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras empties the configuration of a functional model.
        models = {
            name: keras.saving.deserialize_keras_object(
                copy.deepcopy(config[name]), custom_objects
            )
            for name in ("student", "teacher")
        }
        return cls(**{**config, **models})

    def save_own_variables(self, store):
        """Save the student's random state, which Keras leaves out.

        With it, a run that is resumed draws the dropout masks of one that was
        not interrupted. (On torch, a `Dropout` without a seed has no state of
        its own: it draws from torch's generator.)
        """
        for number, state in enumerate(self._random_states()):
            store[f"random_state_{number}"] = state

    def load_own_variables(self, store):
        """Load the student's random state."""
        for number, state in enumerate(self._random_states()):
            state.assign(store[f"random_state_{number}"])

    def _random_states(self):
        saved = {id(v) for v in self.weights}
        return [v for v in self.variables if id(v) not in saved]

    def _read_both(self, teacher, pairs, pair_weights):
        """Choose the pairs, and what is read out of both models."""
        if teacher is not None:
            check_inputs(self.student, teacher)
        elif self.gradient_transfer:
            raise ValueError(
                "Gradient-based transfer needs the teacher in every step. "
                f"Received: gradient_transfer={self.gradient_transfer} with "
                "teacher=None"
            )
        self._pairs = Pairs(())
        if self.beta != 0.0:
            self._pairs = choose_pairs(
                self.student, teacher, pairs, pair_weights
            )
        logits = (False, False)
        if self.alpha != 0.0:
            logits = self.logits or (None, None)
        settings = self.map_function, self.power
        self._student_reader = Reader(
            self.student, [p.student for p in self.pairs], *settings, logits[0]
        )
        self._teacher_reader = None
        if teacher is not None:
            self._teacher_reader = Reader(
                teacher, [p.teacher for p in self.pairs], *settings, logits[1]
            )
