"""One update on each backend, made whole or, if it is no number, not at all.

A loss or a gradient that is not finite would end up in every weight, and the
images behind it in the batch statistics before that. So what the student's
pass and the optimizer would assign is assigned once the loss and its gradients
are known, if they are finite. If not, the loss that is shown is no number
either, which `FiniteLoss` reports.

On JAX the new state is chosen after the step. A `LossScaleOptimizer` expects
gradients that are not finite, and leaves out such an update by itself.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.distillation.backend import replica_count
from keras_attention.distillation.backend import update_if
from keras_attention.distillation.step import Step


class DeferredUpdates(keras.StatelessScope):
    """Keeps what layers assign, to be assigned later.

    But for weights that are trained, such as a kernel under
    `SpectralNormalization`: what is assigned there is what the gradient
    belongs to, and does not come from the data.
    """

    def __init__(self):
        super().__init__(collect_losses=True)
        self.updates: dict[int, tuple[Any, Any]] = {}

    def add_update(self, update):
        variable, value = update
        if variable.trainable:
            variable._direct_assign(value)
            return
        super().add_update(update)
        self.updates[id(variable)] = update


def tensorflow_step(model: keras.Model, step: Step, data: Any) -> dict:
    """Take a step on TensorFlow, in the place of Keras' `train_step`."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs, loss, scaled = _forward(model, step, data)
    gradients = tape.gradient(scaled, model.trainable_weights)
    return _finish(model, step, data, outputs, loss, gradients)


def torch_step(model: keras.Model, step: Step, data: Any) -> dict:
    """Take a step on torch, in the place of Keras' `train_step`."""
    import torch

    outputs, loss, scaled = _forward(model, step, data)
    model.zero_grad()
    if model.trainable_weights:
        scaled.backward()
    gradients = [weight.value.grad for weight in model.trainable_weights]
    with torch.no_grad():
        return _finish(model, step, data, outputs, loss, gradients)


def finite_state(model: keras.Model, state: Any, logs: dict, old: Any) -> Any:
    """Choose between two states on JAX, and note in the logs which it was.

    Args:
        model: whose state it is.
        state: what the step has made of it: trainable, non-trainable,
            optimizer's and metrics' variables.
        logs: of the step.
        old: the state before it.

    Returns:
        `(logs, state)`.
    """
    trainable, *_, metrics = state
    # A mean over the epoch: it is no number from the first such loss on.
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
    """Update everything, or only what is shown."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    finite = ops.isfinite(loss)
    if not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        finite = ops.logical_and(finite, _all_finite(gradients))
    variables = [variable for variable, _ in step.updates]

    def update(gradients, values):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        model.optimizer.apply(gradients, model.trainable_weights)

    values = [ops.stop_gradient(value) for _, value in step.updates]
    update_if(finite, update, gradients, values)
    model._loss_tracker.update_state(
        ops.where(finite, loss * replica_count(), float("nan")),
        sample_weight=ops.shape(keras.tree.flatten(x)[0])[0],
    )
    return model.compute_metrics(x, y, outputs, weight)


def _all_finite(tensors):
    found = [ops.all(ops.isfinite(x)) for x in tensors if x is not None]
    return ops.all(ops.stack(found)) if found else True
