import keras


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

    def on_train_begin(self, logs=None):
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

    def on_train_batch_end(self, batch, logs=None):
        # From here on, Keras has the values of the last step.
        self._values = []

    def restore(self) -> None:
        """Put the values back where there are none."""
        for variable, value in self._values:
            if variable._value is None and not value.is_deleted():
                variable.assign(value)
        self._values = []
