import keras
import numpy as np


class FiniteLoss(keras.callbacks.Callback):
    """Stops a training whose loss is no number, and says which part of it.

    Raises:
        ValueError: after a batch whose loss is not finite, at the latest at
            the end of the epoch, and before another callback could save what
            came of it.
    """

    # Keras does not wait for it then before the next batch.
    async_safe = True

    def on_train_batch_end(self, batch, logs=None):
        if not logs or np.isfinite(float(logs["loss"])):
            return
        parts = {name: float(value) for name, value in logs.items()}
        bad = [name for name, value in parts.items() if not np.isfinite(value)]
        named = [name for name in bad if name.endswith("_loss") or "/" in name]
        raise ValueError(
            "The loss is not finite, and training has stopped. Received: "
            + ", ".join(f"{name}={parts[name]}" for name in named or bad)
            + f" after batch {batch}. The weights are lost: load them from "
            "the last checkpoint, and lower the learning rate or the weight "
            "of that part."
        )
