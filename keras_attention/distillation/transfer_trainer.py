import threading
from contextlib import ExitStack
from functools import partial

import keras
from keras import ops

from keras_attention.distillation.backend import replica_count
from keras_attention.distillation.backend import watched
from keras_attention.distillation.input_gradients import gradient_part
from keras_attention.distillation.input_gradients import input_gradient
from keras_attention.distillation.input_gradients import sum_of_losses
from keras_attention.distillation.input_gradients import symmetry_part
from keras_attention.distillation.logits import output_masks
from keras_attention.distillation.losses import example_weights
from keras_attention.distillation.precomputed import INPUTS
from keras_attention.distillation.precomputed import TARGETS
from keras_attention.distillation.precomputed import is_precomputed
from keras_attention.distillation.schedules import weight_at
from keras_attention.distillation.step import Step
from keras_attention.distillation.training_step import finite_state
from keras_attention.distillation.training_step import tensorflow_step
from keras_attention.distillation.training_step import torch_step
from keras_attention.distillation.transfer import attention_parts
from keras_attention.distillation.transfer import distillation_part
from keras_attention.distillation.transfer import target
from keras_attention.inspection import record_outputs


class TransferTrainer(keras.Model):
    """One step of training: the teacher, the student, the loss and its parts.

    The base of `AttentionTransferModel`, which says what the arguments mean
    and reads the two models; here is what happens in a step.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        # Each replica of a strategy runs its step in a thread of its own.
        self._steps = threading.local()
        self._part_trackers = {}

    def make_part_trackers(self) -> None:
        """Make the metrics that average each part of the loss."""
        names = ["label_loss"]
        if self.alpha != 0.0:
            names.append("distillation_loss")
        if self.pairs:
            names += ["attention_loss", *self.pairs.part_names]
        if self.gradient_transfer:
            names.append("gradient_loss")
        if self.symmetry:
            names.append("symmetry_loss")
        self._part_trackers = {
            name: keras.metrics.Mean(name=name) for name in names
        }

    def train_step(self, *arguments):
        """Take one step: `train_step(data)`, on JAX `(state, data)`."""
        *state, data = arguments
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with ExitStack() as stack:
            step = self._begin(state, x, y)
            if is_precomputed(x):
                x = x[INPUTS]
            if self.gradient_transfer or self.symmetry:
                x, step.gradient = stack.enter_context(watched(x))
            data = keras.utils.pack_x_y_sample_weight(x, y, weight)
            step.values = stack.enter_context(
                record_outputs(self.student, self._student_reader.taps)
            )
            self._steps.now = step
            stack.callback(setattr, self._steps, "now", None)
            if keras.backend.backend() == "tensorflow":
                return tensorflow_step(self, step, data)
            if keras.backend.backend() == "torch":
                return torch_step(self, step, data)
            logs, new = super().train_step(*state, data)
            return finite_state(self, new, logs, *state)

    def stateless_call(self, trainable, non_trainable, x, *args, **kwargs):
        """Call on JAX; note how gradients at the inputs are had from it."""
        step = self._step()
        call = super().stateless_call
        if step is None or not (self.gradient_transfer or self.symmetry):
            return call(trainable, non_trainable, x, *args, **kwargs)
        import jax

        def forward(x):
            outputs, *others = call(
                trainable, non_trainable, x, *args, **kwargs
            )
            return outputs, (others, dict(step.values))

        outputs, pull_back, (others, values) = jax.vjp(forward, x, has_aux=True)
        step.pull_back = lambda gradient: pull_back(gradient)[0]
        step.values = values
        return outputs, *others

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        step = self._step()
        labelled = y is not None and self._compile_loss is not None
        added = None if step is None else step.losses
        if added is None:
            added = self.losses
        total = [self._aggregate_additional_loss(loss) for loss in added]
        if labelled:
            labels = self._compile_loss(y, y_pred, sample_weight)
            total.append(labels if step is None else (1 - step.alpha) * labels)
        if step is not None:
            replicas = replica_count()
            if labelled:
                # Keras has divided it among the replicas.
                step.parts["label_loss"] = labels * replicas
            own = self._teacher_loss(step, x, y, y_pred, sample_weight)
            total.append(own / replicas)
            self._track(step.parts, x)
        return sum(total) if total else ops.zeros(())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        step = self._step()
        if y is None:
            results = self.get_metrics_result()
        else:
            results = super().compute_metrics(x, y, y_pred, sample_weight)
        shown = {} if step is None else step.parts
        return {
            name: value
            for name, value in results.items()
            if name in shown or name not in self._part_trackers
        }

    def get_metrics_result(self):
        metrics = self._compile_metrics
        if metrics is None or metrics.built:
            return super().get_metrics_result()
        # Without labels, the metrics of `compile` are never built.
        return {m.name: m.result() for m in self.metrics if m is not metrics}

    def _step(self):
        return getattr(self._steps, "now", None)

    def _begin(self, state, x, y):
        """Weigh the parts and run the teacher, before the student runs."""
        mapping = []
        if state:  # On JAX, variables have no values of their own in a step.
            (trainable, non_trainable, optimizer, _), *_ = state
            mapping += zip(self.trainable_variables, trainable, strict=True)
            mapping += zip(
                self.non_trainable_variables, non_trainable, strict=True
            )
            mapping += zip(self.optimizer.variables, optimizer, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            iterations = self.optimizer.iterations
            return Step(
                alpha=weight_at(self.alpha, iterations),
                beta=weight_at(self.beta, iterations),
                targets=self._targets(x, y),
            )

    def _targets(self, x, y):
        if is_precomputed(x):
            return x[TARGETS]
        reader = self._teacher_reader
        if reader is not None:
            loss = None
            if self.gradient_transfer:
                loss = partial(sum_of_losses, self.loss, y)
            return reader.read(x, loss)
        if self.pairs or self.alpha != 0.0:
            raise ValueError(
                "Without a teacher, training needs data that carry what the "
                "teacher said about them. Received: teacher=None and data "
                "that do not. Take those of `precompute_teacher`."
            )
        return {}

    def _teacher_loss(self, step, x, y, y_pred, sample_weight):
        """Sum up what the teacher adds to the loss; note each part."""
        weights = example_weights(sample_weight)
        reader, parts, total = self._student_reader, step.parts, 0.0
        if self.alpha != 0.0:
            logits = reader.logits(y_pred, step.values)
            masks = None
            if self.logits is None:
                masks = output_masks(y_pred)
            parts["distillation_loss"] = distillation_part(
                logits, step.targets, self.temperature, weights, masks
            )
            total += step.alpha * parts["distillation_loss"]
        if self.pairs:
            attention = attention_parts(
                self.pairs,
                reader,
                reader.maps(step.values),
                step.targets,
                self.reduction,
                weights,
            )
            parts.update(attention)
            total += step.beta * parts["attention_loss"]
        if self.gradient_transfer or self.symmetry:
            loss = partial(sum_of_losses, self.loss, y)
            here = input_gradient(step, loss, y_pred)
        if self.gradient_transfer:
            there = target(step.targets, "input gradient")
            parts["gradient_loss"] = gradient_part(here, there, weights)
            total += self.gradient_transfer * parts["gradient_loss"]
        if self.symmetry:
            parts["symmetry_loss"] = symmetry_part(
                self.student, loss, x, here, weights, step.updates
            )
            total += self.symmetry * parts["symmetry_loss"]
        return total

    def _track(self, parts, x):
        """Note the parts as Keras notes the whole loss."""
        examples = ops.shape(keras.tree.flatten(x)[0])[0]
        for name, value in parts.items():
            self._part_trackers[name].update_state(
                ops.stop_gradient(value), sample_weight=examples
            )
