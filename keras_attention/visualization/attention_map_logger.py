"""A callback that draws while a model is trained."""

import io
import os
import pathlib
import struct
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.validation import check_boolean
from keras_attention.validation import check_positive_integer
from keras_attention.visualization.attention_maps import plot_attention_maps

# Of TensorFlow's `DataClass`: that of images.
BLOB_SEQUENCE = 3


class AttentionMapLogger(keras.callbacks.Callback):
    """Writes a figure after every epoch, to a folder or to TensorBoard.

    In a folder the figures are `epoch_0001.png` and so on, as many as there
    are epochs; in TensorBoard they are one image with a slider.

    Args:
        directory: Folder to write to; created if it does not exist.
        images: Images whose attention maps are plotted, as the model takes
            them.
        layers: Names of the plotted layers; see `plot_attention_maps`.
        labels: A title for each image: a text or a number, or rows that are
            one-hot.
        draw: Function that takes the model and returns a matplotlib
            `Figure`, in place of `images`, `layers` and `labels`. So other
            figures are logged: `lambda m: plot_attention_heads(m, tokens)`.
        model: Model to plot. Defaults to `None`, the one in training.
            For an `AttentionTransferModel` give its student, or a mapping
            with its teacher, or name layers as `"student/stage1"`.
        every: Number of epochs between two figures. Defaults to 1.
        tensorboard: Whether to write events for TensorBoard instead of files.
            Needs the TensorFlow backend. Defaults to `False`.
        name: Name of the image in TensorBoard.

    Raises:
        TypeError, ValueError: for arguments of the wrong type or range, or
            both or none of `images` and `draw`.
        RuntimeError: for `tensorboard` with another backend.

    Example:

    >>> from keras_attention.visualization import AttentionMapLogger
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.GlobalAveragePooling2D()])
    >>> model.compile("sgd", "mse")
    >>> x = np.random.normal(size=(6, 8, 8, 1))
    >>> logger = AttentionMapLogger("maps", x[:2], ["conv"])
    >>> history = model.fit(
    ...     x, np.ones((6, 4)), epochs=2, verbose=0, callbacks=[logger])
    >>> sorted(path.name for path in logger.directory.iterdir())
    ['epoch_0001.png', 'epoch_0002.png']
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        images: Any = None,
        layers: Sequence[str] | None = None,
        labels: Sequence[Any] | None = None,
        draw: Callable[[Any], Any] | None = None,
        model: Any = None,
        every: int = 1,
        tensorboard: bool = False,
        name: str = "attention_maps",
    ):
        super().__init__()
        if (images is None) == (draw is None):
            raise ValueError(
                "Give `images`, or a function `draw`. Received: "
                f"{'neither' if draw is None else 'both'}"
            )
        if draw is not None and (layers is not None or labels is not None):
            raise ValueError(
                "`layers` and `labels` are those of `images`. Received: "
                f"layers={layers!r}, labels={labels!r} with `draw`"
            )
        self.directory = pathlib.Path(directory)
        self.every = check_positive_integer("every", every)
        self.tensorboard = check_boolean("tensorboard", tensorboard)
        if tensorboard and keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "Events for TensorBoard are written with TensorFlow. Received: "
                f"tensorboard=True with the backend {keras.backend.backend()}. "
                "Write files: tensorboard=False."
            )
        self.draw = draw or (
            lambda drawn: plot_attention_maps(drawn, images, layers, labels)
        )
        self.drawn_model = model
        self.name = name
        self._writer = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.every:
            return
        model = self.model if self.drawn_model is None else self.drawn_model
        figure = self.draw(model)
        if self.tensorboard:
            self._write_event(figure, epoch)
        else:
            figure.savefig(self.directory / f"epoch_{epoch + 1:04d}.png")

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_event(self, figure, epoch):
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.directory))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        png = buffer.getvalue()
        # A PNG begins with its size. What `tf.summary.image` writes, which
        # needs TensorBoard to be installed here too.
        width, height = struct.unpack(">II", png[16:24])
        metadata = tf.compat.v1.Summary.Value().metadata
        metadata.plugin_data.plugin_name = "images"
        metadata.data_class = BLOB_SEQUENCE
        with self._writer.as_default():
            tf.summary.write(
                self.name,
                tf.constant([str(width), str(height), png]),
                step=epoch + 1,
                metadata=metadata,
            )
        self._writer.flush()
