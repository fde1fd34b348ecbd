import copy
import threading
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.backend import check_replicas
from keras_attention.distillation.backend import replica_count
from keras_attention.distillation.bound_objectives import BoundObjectives
from keras_attention.distillation.callbacks import FiniteLoss
from keras_attention.distillation.callbacks import FirstSteps
from keras_attention.distillation.callbacks import KeptVariables
from keras_attention.distillation.model_checks import check_models
from keras_attention.distillation.model_checks import check_order
from keras_attention.distillation.model_checks import check_teacher_weights
from keras_attention.distillation.model_checks import teacher_list
from keras_attention.distillation.model_checks import training_policy
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import loss_dtype
from keras_attention.distillation.objectives.output_losses import output_losses
from keras_attention.distillation.objectives.short_form import check_objectives
from keras_attention.distillation.objectives.short_form import short_objectives
from keras_attention.distillation.pairs import Pairs
from keras_attention.distillation.teacher_cache import INPUTS
from keras_attention.distillation.teacher_cache import is_precomputed
from keras_attention.distillation.train_step import stateless_call
from keras_attention.distillation.train_step import train_step
from keras_attention.inspection.model_outputs import output_shapes
from keras_attention.validation import check_backend

LABELS, REGULARIZATION = "label_loss", "regularization_loss"


@keras.saving.register_keras_serializable(package="keras_attention")
class AttentionTransferModel(keras.Model):
    """Trains a student to have its teacher's attention maps.

    `compile`, `fit`, `evaluate` and `predict` are those of the student. `fit`
    adds to its loss

        (1 - alpha) labels + alpha T² KL(teacher || student) + attention

    where `attention` is the sum over pairs of layers of the distance between
    the attention maps of student and teacher: the sums over channels of the
    squared activations, flattened and scaled to length 1 for each example.
    Regularization losses and `add_loss` are added unchanged. The progress bar
    and the history show each part as it enters the loss, so that
    `label_loss`, `distillation_loss`, `attention_loss` and
    `regularization_loss` add up to `loss`.

    With `beta=None`, the default, the weight of attention does not depend on
    the sizes of images and maps:

        Σ_j 15.625 · (P_min / P_j) · ||Q_S^j - Q_T^j||²

    where P_j is the number of positions of map j and P_min the smallest. For
    the paper's networks on images of 32 x 32 this is the authors' loss, 1e3
    times the mean over positions. A number has the meaning that `reduction`
    gives it; see `AttentionMaps`.

    Other ways to distill are loss objects in `losses`, which replace the
    arguments from `pairs` to `symmetry`: `AttentionMaps`, `AttentionScores`,
    `AttentionCopy`, `Relations`, `Features`, `Logits`, `DecoupledLogits`,
    `InputGradients` and `FlipSymmetry`, of `keras_attention.distillation`.
    All are computed from one pass of the student and one of the teacher,
    which runs in inference mode and outside the tape. The teacher and
    everything else of the caller's stays as it is, but for the student's
    weights. `evaluate` and `predict` run the student alone, and `student` is
    an ordinary model to save and export.

    Sample weights, also for each position, class weights and masks count in
    every part of the loss. A step whose loss or gradient is not finite
    updates nothing, nor does one after it, and `fit` stops with an error that
    names the part; after such a `train_on_batch`, `reset_metrics()` lets
    training go on. The first steps are watched: `fit` warns, once, of a
    teacher that is no better than chance or worse than the student, and of a
    part that is many times the loss of the labels and does not fall.

    Args:
        student: A built model, to be trained.
        teacher: A built model that takes the same inputs; images are resized
            for a teacher of another size. Or a list of such models. Defaults
            to `None`, for data of `precompute_teacher`.
        pairs: Which layers are compared. `"blocks"`: all residual blocks of
            two networks of the same depth. `"groups"`: the ends of each
            resolution. `"scores"`: the scores of all attention layers. Or a
            list of names and of `(student, teacher)` names:
            `"backbone/stage2"` is a layer of a nested model,
            `"attention:scores"` are the scores of an attention layer.
            Defaults to `None`: blocks if the depths agree, else groups. The
            attribute `pairs` shows the choice as a table.
        beta: Weight of the attention maps: `None`, a number, or a
            `keras.optimizers.schedules.LearningRateSchedule`, called with the
            optimizer's iterations. Defaults to `None`, the scale-free weight.
        power: p of the map function |A|^p, at least 1. Defaults to 2.
        map_function: `"sum"` or `"max"` over channels. Defaults to `"sum"`.
        reduction: What a number as `beta` multiplies: `"mean"`, `"sum"`,
            `"paper"` or `"scale_free"`; see `AttentionMaps`. Defaults to
            `"mean"`.
        pair_weights: A factor for each pair. Defaults to 1 for each.
        alpha: Weight of the teacher's outputs, between 0 and 1, or a
            schedule. Defaults to 0, attention transfer alone. Hinton's
            distillation uses 0.9.
        temperature: T of the softened outputs. Defaults to 4.
        logits: Layers that have the logits, if not the outputs; see `layers`
            of `Logits`. Defaults to `None`.
        gradient_transfer: Weight of `InputGradients`. Defaults to 0.
        symmetry: Weight of `FlipSymmetry`. Defaults to 0.
        resize_outputs: Whether outputs of another resolution are resized; see
            `Logits`. Defaults to `False`.
        losses: A list of loss objects instead of the arguments above.
            Defaults to `None`.
        teacher_weights: Weight of each of several teachers. They are divided
            by their sum. Defaults to equal weights.
        **kwargs: `name` and `dtype`. The dtype policy is the student's unless
            given.

    Raises:
        TypeError: For arguments of the wrong type.
        ValueError: For arguments out of range, models that are not built,
            take other inputs, share trainable layers or have no resolution in
            common, a student with its own training step, and layers that do
            not exist.

    Source: Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR
    2017, arXiv:1612.03928; Hinton et al., arXiv:1503.02531.

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

    With loss objects:

    >>> from keras_attention.distillation import AttentionMaps
    >>> from keras_attention.distillation import DecoupledLogits
    >>> model = keras_attention.AttentionTransferModel(
    ...     student, teacher, losses=[AttentionMaps(), DecoupledLogits()]
    ... )
    """

    # The losses that the objectives have read: those of the last `compile`.
    _losses_read: Any = ()

    def __new__(cls, *args, **kwargs):
        check_order(args)
        return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | Sequence[keras.Model] | None = None,
        pairs: str | Sequence[Any] | None = None,
        beta: float
        | keras.optimizers.schedules.LearningRateSchedule
        | None = None,
        power: float = 2,
        map_function: str = "sum",
        reduction: str | None = None,
        pair_weights: Sequence[float] | None = None,
        alpha: float | keras.optimizers.schedules.LearningRateSchedule = 0.0,
        temperature: float = 4.0,
        logits: str | Sequence[Any] | None = None,
        gradient_transfer: float = 0.0,
        symmetry: float = 0.0,
        resize_outputs: bool = False,
        losses: Sequence[Objective] | None = None,
        teacher_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        check_backend(type(self).__name__)
        teachers = teacher_list(teacher)
        check_models(student, teachers)
        kwargs.setdefault("dtype", training_policy(student))
        super().__init__(autocast=False, **kwargs)
        self.student = student
        short = {
            "pairs": pairs,
            "beta": beta,
            "power": power,
            "map_function": map_function,
            "reduction": reduction,
            "pair_weights": pair_weights,
            "alpha": alpha,
            "temperature": temperature,
            "logits": logits,
            "gradient_transfer": gradient_transfer,
            "symmetry": symmetry,
            "resize_outputs": resize_outputs,
        }
        if losses is None:
            self.objectives = short_objectives(**short)
        else:
            self.objectives = check_objectives(losses, short)
        self.bound_objectives = BoundObjectives(
            self.objectives,
            student,
            teachers,
            check_teacher_weights(teacher_weights, teachers),
        )
        # Layers that are trained with the student, and saved with this model.
        self.projections = self.bound_objectives.projections
        # Each replica of a strategy runs its step in a thread of its own.
        self.steps = threading.local()
        self.first_steps_are_over = False
        self._make_trackers()
        # Built by the caller: without this, a loaded model would lose its
        # optimizer's state.
        self.built = True

    @property
    def teacher(self) -> keras.Model | list[keras.Model] | None:
        """The teacher, or the list of teachers. Nothing trains them."""
        teachers = self.bound_objectives.teachers
        return teachers[0] if len(teachers) == 1 else (teachers or None)

    @property
    def pairs(self) -> Pairs:
        """The pairs of layers that are compared; printed, they are a table."""
        return self.bound_objectives.pairs

    @property
    def output_names(self) -> list[str]:
        """The names of the student's outputs."""
        return self.student.output_names

    @property
    def non_trainable_variables(self) -> list:
        """Those of the student, and all of the teachers'."""
        mine = super().non_trainable_variables
        known = {id(v) for v in self.variables}
        teachers = self.bound_objectives.teachers
        theirs = [v for model in teachers for v in model.variables]
        return mine + [v for v in theirs if id(v) not in known]

    def call(self, inputs: Any, training: bool | None = None):
        if is_precomputed(inputs):
            inputs = inputs[INPUTS]
        bound = self.bound_objectives
        if not bound.copies or self._step() is not None:
            return self.student(inputs, training=training)
        with bound.copying(bound.read_teachers(inputs)):
            return self.student(inputs, training=training)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ):
        check_replicas(self)
        self.read_losses()
        kept = KeptVariables()
        own = [kept, FiniteLoss(), FirstSteps(self)]
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

    def make_train_function(self, force: bool = False):
        """Makes the function that takes a step.

        With the optimizer's variables made before: TensorFlow traces a step
        that makes variables twice.
        """
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, *arguments: Any):
        """Takes one step: `train_step(data)`, on JAX `(state, data)`."""
        *state, data = arguments
        self.read_losses()
        return train_step(self, state, data, super().train_step)

    def stateless_call(
        self,
        trainable: Any,
        non_trainable: Any,
        x: Any,
        *args: Any,
        **kwargs: Any,
    ):
        """Calls the model on JAX."""
        step, call = self._step(), super().stateless_call
        if step is None or not self.bound_objectives.compares_gradients:
            return call(trainable, non_trainable, x, *args, **kwargs)
        return stateless_call(
            self, step, call, trainable, non_trainable, x, *args, **kwargs
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool | None = True,
    ):
        """Computes the loss; in a training step, with what it transfers."""
        step, replicas = self._step(), replica_count()
        added = None if step is None else step.losses
        if added is None:
            added = self.losses
        total = [
            ops.cast(self._aggregate_additional_loss(loss), loss_dtype())
            for loss in added
        ]
        parts = {REGULARIZATION: sum(total) * replicas} if total else {}
        if y is not None and self._compile_loss is not None:
            # Keras multiplies weights by masks in place on torch.
            weights = keras.tree.map_structure(
                lambda x: None if x is None else ops.copy(x), sample_weight
            )
            labels = self._compile_loss(y, y_pred, weights)
            labels = ops.cast(labels, loss_dtype())
            if step is not None:
                weight = self.bound_objectives.label_weight(step.weights)
                labels = weight * labels
            # Keras has divided it among the replicas.
            parts[LABELS] = labels * replicas
            total.append(labels)
        if step is not None:
            transferred, found = self.bound_objectives.losses(
                step, self.loss, x, y, y_pred, sample_weight
            )
            total.append(transferred / replicas)
            step.parts = {**parts, **found}
            self._track(step.parts, x)
        return sum(total) if total else ops.zeros(())

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ):
        """Updates and returns the metrics and the parts of the loss."""
        step = self._step()
        if y is None:
            results = self.get_metrics_result()
        else:
            results = super().compute_metrics(x, y, y_pred, sample_weight)
        shown = {} if step is None else step.parts
        return {
            name: value
            for name, value in results.items()
            if name in shown or name not in self._own_metrics
        }

    def get_metrics_result(self):
        """Returns the values of the metrics by name."""
        metrics = self._compile_metrics
        if metrics is None or metrics.built:
            return super().get_metrics_result()
        # Without labels, the metrics of `compile` are never built.
        return {m.name: m.result() for m in self.metrics if m is not metrics}

    def read_losses(self) -> None:
        """Has the objectives read what the model is compiled with.

        Raises:
            ValueError: If the loss of an output does not tell how it is
                distilled.
        """
        if not self.compiled or self._losses_read is self._compile_loss:
            return
        names = list(output_shapes(self.student))
        self.bound_objectives.set_losses(output_losses(self, names))
        self._losses_read = self._compile_loss

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        bound = self.bound_objectives
        teachers = [serialize(model) for model in bound.teachers]
        found: dict[int, Objective] = {}
        for each in bound.bound:
            found.setdefault(each.number, each.objective)
        several = len(bound.teacher_weights) > 1
        return {
            **super().get_config(),
            "student": serialize(self.student),
            "teacher": teachers if several else (teachers or [None])[0],
            # Of several teachers, each has its own pairs.
            "losses": [
                serialize(objective if several else found[number])
                for number, objective in enumerate(self.objectives)
            ],
            "teacher_weights": bound.teacher_weights if several else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None):
        # Keras empties the configuration of a functional model.
        def rebuilt(value):
            return keras.saving.deserialize_keras_object(
                copy.deepcopy(value), custom_objects
            )

        config = dict(config)
        teacher = config.pop("teacher")
        if isinstance(teacher, list):
            teacher = [rebuilt(each) for each in teacher]
        else:
            teacher = rebuilt(teacher)
        return cls(
            student=rebuilt(config.pop("student")),
            teacher=teacher,
            losses=[rebuilt(each) for each in config.pop("losses")],
            **config,
        )

    def save_own_variables(self, store: Any):
        """Saves the student's random state, which Keras leaves out.

        With it, a run that is resumed draws the dropout masks of one that was
        not interrupted. (On torch, a `Dropout` without a seed has no state of
        its own: it draws from torch's generator.)
        """
        for number, state in enumerate(self._random_states()):
            store[f"random_state_{number}"] = state

    def load_own_variables(self, store: Any):
        """Loads the student's random state."""
        for number, state in enumerate(self._random_states()):
            state.assign(store[f"random_state_{number}"])

    def _random_states(self):
        saved = {id(v) for v in self.weights}
        return [v for v in self.variables if id(v) not in saved]

    def _step(self):
        return getattr(self.steps, "now", None)

    def _make_trackers(self):
        """Makes the metrics that average each part of the loss."""
        names = [LABELS, REGULARIZATION, *self.bound_objectives.part_names]
        self._part_trackers = {
            name: keras.metrics.Mean(name=name) for name in dict.fromkeys(names)
        }
        self.first_accuracies = self.bound_objectives.accuracies.metrics
        self._own_metrics = {
            *self._part_trackers,
            *(metric.name for metric in self.first_accuracies.values()),
        }

    def _track(self, parts, x):
        """Notes the parts as Keras notes the whole loss."""
        examples = ops.shape(keras.tree.flatten(x)[0])[0]
        for name, value in parts.items():
            self._part_trackers[name].update_state(
                ops.stop_gradient(value), sample_weight=examples
            )
