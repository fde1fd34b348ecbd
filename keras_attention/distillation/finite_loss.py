import keras
import numpy as np


class FiniteLoss(keras.callbacks.Callback):
    """Stops a training whose loss is no number, and says which part of it.

    The step has not updated anything with such a loss, see `training_step`.

    Raises:
        ValueError: after a batch whose loss or gradient is not finite, at the
            latest at the end of the epoch, and before another callback sees
            it.
    """

    # Keras does not wait for it then before the next batch.
    async_safe = True

    def on_train_batch_end(self, batch, logs=None):
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
