"""What `AttentionTransferModel.fit` watches while it trains."""

import threading
import warnings
from typing import Any

import keras
import numpy as np


class FiniteLoss(keras.callbacks.Callback):
    """Stops a training whose loss is not finite, and names the part.

    The step has not updated anything with such a loss, see `train_step`.

    Raises:
        ValueError: After a batch whose loss or gradient is not finite, at the
            latest at the end of the epoch, and before another callback sees
            it.
    """

    # Keras does not wait for it then before the next batch.
    async_safe = True

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ):
        if not logs or np.isfinite(float(logs["loss"])):
            return
        parts = {name: float(value) for name, value in logs.items()}
        bad = [
            f"{name}={value}"
            for name, value in parts.items()
            if (name.endswith("_loss") or "/" in name)
            and not np.isfinite(value)
        ]
        what = ", ".join(bad) or (
            f"loss={parts['loss']}, where every part is finite, so it is a "
            "gradient or a regularization loss that is not"
        )
        raise ValueError(
            "The loss is not finite, and training has stopped. Received: "
            f"{what}, after batch {batch}. The weights and the optimizer are "
            "as they were before the first such batch. Look at its data, or "
            "lower the learning rate or the weight of that part."
        )


class KeptVariables(keras.callbacks.Callback):
    """Gives variables back the values that a failed first step has taken.

    On JAX, Keras takes the values out of all variables before the first step
    and puts the results in after it. If that step fails, or is interrupted
    while it compiles, the student and the teacher would be left without.
    """

    # Keras does not wait for it then before the next batch.
    async_safe = True

    def __init__(self):
        super().__init__()
        self._values = []

    def on_train_begin(self, logs: dict[str, Any] | None = None):
        if keras.backend.backend() != "jax":
            return
        model = self.model
        variables = [
            *model.trainable_variables,
            *model.non_trainable_variables,
            *model.optimizer.variables,
            *model.metrics_variables,
        ]
        self._values = [(v, v.value) for v in variables]

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ):
        # From here on, Keras has the values of the last step.
        self._values = []

    def restore(self) -> None:
        """Puts the values back where there are none."""
        for variable, value in self._values:
            if variable._value is None and not value.is_deleted():
                variable.assign(value)
        self._values = []


class FirstSteps(keras.callbacks.Callback):
    """Warns, once, of what the first steps show to be set up wrongly.

    - A teacher that is no better than chance, or worse than the student.
    - A part of the loss that is many times that of the labels and does not
      fall.

    Args:
        trained: The `AttentionTransferModel`.
    """

    # Keras does not wait for it then before the next batch.
    async_safe = True

    STEPS = 50
    # The first of them, and the last, that are compared with each other.
    COMPARED_STEPS = 5
    ACCURACY_STEPS = 10
    MIN_EXAMPLES = 100
    TIMES = 10
    FALL = 0.8

    def __init__(self, trained: Any):
        super().__init__()
        # `self.model` would synchronize the state on JAX.
        self._trained = trained
        # The mean of each part over an epoch, by epoch and batch.
        self._means: dict[tuple[int, int], dict[str, float]] = {}
        self._epoch = 0
        self._steps = self._steps_before = 0
        self._has_compared = self._has_judged = False
        # Keras reports batches from several threads, in any order.
        self._lock = threading.Lock()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None):
        self._epoch = epoch
        self._steps_before = self._steps

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ):
        over = self._has_judged or self._trained.first_steps_are_over
        if not logs or over:
            return
        means = {name: float(logs[name]) for name in self._names(logs)}
        # Keras numbers the last step as if no execution had fewer of them.
        if count := self.params.get("steps"):
            batch = min(batch, count - 1)
        with self._lock:
            self._means[self._epoch, batch] = means
            self._steps = max(self._steps, self._steps_before + batch + 1)
            # On JAX, the metrics have their values at the end of an epoch.
            is_known = keras.backend.backend() != "jax"
            if is_known and self._steps >= self.ACCURACY_STEPS:
                self._check_accuracies()
            if self._steps >= self.STEPS and self._are_all_reported():
                self._check_parts()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None):
        self._check_accuracies()
        if self._steps >= self.STEPS and self._can_judge():
            self._trained.first_steps_are_over = True

    def on_train_end(self, logs: dict[str, Any] | None = None):
        if self._steps >= self.ACCURACY_STEPS:
            self._check_parts()
            self._trained.first_steps_are_over = True

    def _names(self, logs):
        names = [objective.loss_name for objective in self._trained.objectives]
        return [name for name in ["label_loss", *names] if name in logs]

    @property
    def _reports_compared(self):
        return -(-self.COMPARED_STEPS // self._trained.steps_per_execution)

    def _can_judge(self):
        """Whether the first and the last reports are not the same."""
        return len(self._means) >= 2 * self._reports_compared

    def _are_all_reported(self):
        """Whether no batch before the last that is known is missing."""
        reports = sum(epoch == self._epoch for epoch, _ in self._means)
        seen = reports * self._trained.steps_per_execution
        return seen >= self._steps - self._steps_before

    def _values(self):
        """The parts in the order of the steps, taken out of the means."""
        values: dict[str, list[float]] = {}
        before, count, sums = None, 0, {}
        for (epoch, batch), means in sorted(self._means.items()):
            if epoch != before:
                before, count, sums = epoch, 0, {}
            new = batch + 1 - count
            count = batch + 1
            for name, mean in means.items():
                step = (mean * count - sums.get(name, 0.0)) / new
                values.setdefault(name, []).append(step)
                sums[name] = mean * count
        return values

    def _check_accuracies(self):
        model = self._trained
        if model.first_steps_are_over or self._has_compared:
            return
        self._has_compared = True
        found = {
            name: float(metric.result())
            for name, metric in model.first_accuracies.items()
        }
        count, mine, theirs = (
            found[name] for name in ("count", "student", "teacher")
        )
        if count < self.MIN_EXAMPLES:
            return
        chance = model.bound_objectives.accuracies.chance
        spread = (chance * (1 - chance) / count) ** 0.5
        if theirs < chance + 3 * spread:
            warnings.warn(
                "The teacher is no better than chance on the first "
                f"{count:.0f} labels: it is right on {theirs:.1%} of them, "
                f"where guessing gives {chance:.1%}. Train the teacher first, "
                "and check that both models take inputs of the same scale and "
                "order the classes alike. AttentionTransferModel takes "
                "(student, teacher).",
                stacklevel=2,
            )
        elif mine > theirs + 0.05:
            warnings.warn(
                "The student is better than the teacher on the first "
                f"{count:.0f} labels: it is right on {mine:.1%} of them, the "
                f"teacher on {theirs:.1%}. AttentionTransferModel takes "
                "(student, teacher), in this order.",
                stacklevel=2,
            )

    def _check_parts(self):
        over = self._trained.first_steps_are_over or self._has_judged
        if over or not self._can_judge():
            return
        self._has_judged = True
        parts = self._values()
        labels = parts.pop("label_loss", None)
        if not labels:
            return
        count = self._reports_compared
        label = np.mean(labels[-count:])
        by_name = {o.loss_name: o for o in self._trained.objectives}
        for name, values in parts.items():
            first, last = np.mean(values[:count]), np.mean(values[-count:])
            if last > self.TIMES * label and last > self.FALL * first:
                warnings.warn(
                    f"The part '{name}' of the loss is {last:.3g} after "
                    f"{self._steps} steps, {last / max(label, 1e-9):.0f} "
                    f"times the loss of the labels, {label:.3g}, and does not "
                    f"fall: it was {first:.3g} at first. "
                    f"{by_name[name].advice()}",
                    stacklevel=2,
                )
