"""One training step: the teachers, the student, the loss and the update.

On TensorFlow and torch the update is made whole or, if the loss or a gradient
is not finite, not at all: it would end up in every weight, and the images
before it in the batch statistics. What the student's pass and the optimizer
would assign is assigned once the loss and its gradients are known. If they
are not finite, the loss that is reported is not either, which `FiniteLoss`
turns into an error. On JAX the new state is chosen after the step. A
`LossScaleOptimizer` expects gradients that are not finite, and leaves out
such an update by itself.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
from keras import ops

from keras_attention.distillation.backend import replica_count
from keras_attention.distillation.backend import update_if
from keras_attention.distillation.backend import watched
from keras_attention.distillation.teacher_cache import INPUTS
from keras_attention.distillation.teacher_cache import is_precomputed
from keras_attention.inspection import record_outputs


@dataclass
class Step:
    """One step of one replica.

    Args:
        weights: The weight of each objective in this step.
        targets: What was read of each teacher, by name.
        values: The student's intermediate outputs.
        gradient: Turns a scalar into its gradient at the inputs. `None` where
            `pull_back` does that.
        pull_back: Turns a gradient at the outputs into one at the inputs.
        losses: What layers added to the loss. `None` if the model has them.
        updates: Variables with what the student's pass makes of them.
        parts: The parts of the loss as they enter it, by name.
    """

    weights: Sequence[Any]
    targets: Sequence[Mapping[str, Any]]
    values: Mapping[str, Any] = field(default_factory=dict)
    gradient: Callable[[Any], Any] | None = None
    pull_back: Callable[[Any], Any] | None = None
    losses: list[Any] | None = None
    updates: Sequence[tuple[Any, Any]] = ()
    parts: dict[str, Any] = field(default_factory=dict)


def train_step(model: Any, state: Any, data: Any, jax_step: Any) -> Any:
    """Takes one step of an `AttentionTransferModel`.

    Args:
        model: The model.
        state: Empty; on JAX, a list of the state of all variables.
        data: One batch.
        jax_step: Keras' own `train_step` of the model, for JAX.

    Returns:
        The logs; on JAX `(logs, state)`.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    bound = model.bound_objectives
    with ExitStack() as stack:
        step = _begin(model, state, x, y)
        if is_precomputed(x):
            x = x[INPUTS]
        if bound.compares_gradients:
            x, step.gradient = stack.enter_context(watched(x))
        data = keras.utils.pack_x_y_sample_weight(x, y, weight)
        stack.enter_context(bound.copying(step.targets))
        step.values = stack.enter_context(
            record_outputs(model.student, bound.student_reader.names)
        )
        model.steps.now = step
        stack.callback(setattr, model.steps, "now", None)
        if keras.backend.backend() == "tensorflow":
            return _tensorflow_step(model, step, data)
        if keras.backend.backend() == "torch":
            return _torch_step(model, step, data)
        logs, new = jax_step(*state, data)
        return _finite_state(model, new, logs, *state)


def stateless_call(
    model: Any, step: Step, call: Any, trainable: Any, fixed: Any, x: Any,
    *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """Calls the model on JAX; keeps what gradients at the inputs need."""
    import jax

    def forward(x):
        outputs, *others = call(trainable, fixed, x, *args, **kwargs)
        return outputs, (others, dict(step.values))

    outputs, pull_back, (others, values) = jax.vjp(forward, x, has_aux=True)
    step.pull_back = lambda gradient: pull_back(gradient)[0]
    step.values = values
    return outputs, *others


def _begin(model, state, x, y):
    """Weighs the objectives and runs the teachers, before the student runs."""
    mapping = []
    if state:  # On JAX, variables have no values of their own in a step.
        (trainable, non_trainable, optimizer, _), *_ = state
        mapping += zip(model.trainable_variables, trainable, strict=True)
        mapping += zip(
            model.non_trainable_variables, non_trainable, strict=True
        )
        mapping += zip(model.optimizer.variables, optimizer, strict=True)
    bound = model.bound_objectives
    with keras.StatelessScope(state_mapping=mapping):
        weights = bound.weights_at(model.optimizer.iterations)
        return Step(weights, bound.targets(x, y, model.loss))


class DeferredUpdates(keras.StatelessScope):
    """Keeps what layers assign, to be assigned later.

    But for weights that are trained, such as a kernel under
    `SpectralNormalization`: what is assigned there is what the gradient
    belongs to, and does not come from the data.
    """

    def __init__(self):
        super().__init__(collect_losses=True)
        self.updates: dict[int, tuple[Any, Any]] = {}

    def add_update(self, update: Any):
        variable, value = update
        if variable.trainable:
            variable._direct_assign(value)
            return
        super().add_update(update)
        self.updates[id(variable)] = update


def _tensorflow_step(model, step, data):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs, loss, scaled = _forward(model, step, data)
    gradients = tape.gradient(scaled, model.trainable_weights)
    if model.bound_objectives.copies:
        # Queries and keys have no part in an output with copied scores.
        gradients = [
            tf.zeros_like(weight.value) if gradient is None else gradient
            for weight, gradient in zip(
                model.trainable_weights, gradients, strict=True
            )
        ]
    return _finish(model, step, data, outputs, loss, gradients)


def _torch_step(model, step, data):
    import torch

    outputs, loss, scaled = _forward(model, step, data)
    model.zero_grad()
    if model.trainable_weights:
        scaled.backward()
    gradients = [weight.value.grad for weight in model.trainable_weights]
    if model.bound_objectives.copies:
        gradients = [
            torch.zeros_like(weight.value) if gradient is None else gradient
            for weight, gradient in zip(
                model.trainable_weights, gradients, strict=True
            )
        ]
    with torch.no_grad():
        return _finish(model, step, data, outputs, loss, gradients)


def _finite_state(model, state, logs, old):
    """Chooses between two states on JAX, and notes in the logs which it was.

    Args:
        model: The model.
        state: What the step has made of it: trainable, non-trainable,
            optimizer's and metrics' variables.
        logs: The logs of the step.
        old: The state before it.

    Returns:
        `(logs, state)`.
    """
    trainable, *_, metrics = state
    # A mean over the epoch: it is not finite from the first such loss on.
    finite = ops.isfinite(logs["loss"]) & _all_finite(trainable)
    *chosen, _ = keras.tree.map_structure(
        lambda new, before: ops.where(finite, new, before), state, old
    )
    total = model._loss_tracker.total
    metrics = [
        ops.where(finite, value, float("nan")) if variable is total else value
        for variable, value in zip(
            model.metrics_variables, metrics, strict=True
        )
    ]
    loss = ops.where(finite, logs["loss"], float("nan"))
    return {**logs, "loss": loss}, (*chosen, metrics)


def _forward(model, step, data):
    """Outputs, loss, and the loss that has the gradients."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    with DeferredUpdates() as scope:
        outputs = model(x, training=True)
    # Of `add_loss`, and of the weights' regularizers.
    step.losses = [*scope.losses, *model.losses]
    step.updates = list(scope.updates.values())
    loss = model.compute_loss(x, y, outputs, weight, training=True)
    return outputs, loss, model.optimizer.scale_loss(loss)


def _finish(model, step, data, outputs, loss, gradients):
    """Updates everything, or only what is reported."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    # Keras may take some steps more before the callback sees such a loss. The
    # sum over the epoch is not finite from the first of them on.
    finite = ops.isfinite(loss) & ops.isfinite(model._loss_tracker.total)
    if not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        finite = ops.logical_and(finite, _all_finite(gradients))
    variables = [variable for variable, _ in step.updates]

    def update(gradients, values):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        model.optimizer.apply(gradients, model.trainable_weights)

    values = [ops.stop_gradient(value) for _, value in step.updates]
    changed = [
        *variables,
        *model.trainable_variables,
        *model.optimizer.variables,
    ]
    is_xla = keras.backend.backend() == "tensorflow" and model.jit_compile
    update_if(finite, update, changed, gradients, values, is_xla=is_xla)
    model._loss_tracker.update_state(
        ops.where(finite, loss * replica_count(), float("nan")),
        sample_weight=ops.shape(keras.tree.flatten(x)[0])[0],
    )
    return model.compute_metrics(x, y, outputs, weight)


def _all_finite(tensors):
    found = [ops.all(ops.isfinite(x)) for x in tensors if x is not None]
    return ops.all(ops.stack(found)) if found else True
