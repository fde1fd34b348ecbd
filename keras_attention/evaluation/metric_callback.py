"""Reports metrics that yield names and values while a model is trained."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.validation import check_positive_integer


class MetricCallback(keras.callbacks.Callback):
    """Adds metrics to the logs of `fit` at the end of epochs.

    They appear in the history, and to callbacks that come later in the list.

    Args:
        metrics: objects whose `compute(model)` yields `(name, value)`, such
            as `ContrastiveMetric`.
        every: number of epochs from one computation to the next.

    Raises:
        TypeError: If a metric has no `compute`.
        TypeError, ValueError: If `every` is not a positive integer.
    """

    def __init__(self, metrics: Sequence[Any], every: int = 1):
        super().__init__()
        self.metrics = list(metrics)
        for metric in self.metrics:
            if not callable(getattr(metric, "compute", None)):
                raise TypeError(
                    "`metrics` must have a method `compute(model)` that "
                    f"yields names and values. Received: {metric!r}"
                )
        self.every = check_positive_integer("every", every)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if (epoch + 1) % self.every or logs is None:
            return
        for metric in self.metrics:
            logs.update(metric.compute(self.model))
