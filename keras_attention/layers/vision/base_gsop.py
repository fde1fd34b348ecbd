"""What the two blocks of second-order pooling share."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.rowwise_dense import RowwiseDense
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.types import InitializerLike
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


class BaseGSoP(WeightedLayer, BaseGate):
    """Base of the gates that are a function of a covariance matrix.

    A subclass calls `build_gate` in its `build_weights`, and in its
    `compute_gate` first `reduce_channels`, then `gate_of_covariance`.

    Args:
        reduced_channels: positive integer; number of channels, or d, that the
            covariance is computed of.
        expansion: positive integer; number of filters for each row of the
            covariance.
        kernel_initializer: initializer of the kernels.
        **kwargs: passed on to the next class.
    """

    def __init__(
        self,
        reduced_channels: int = 128,
        expansion: int = 4,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.reduced_channels = check_positive_integer(
            "reduced_channels", reduced_channels
        )
        self.expansion = check_positive_integer("expansion", expansion)

    def build_gate(
        self, channels: int, rows: int, units: int, strides: int = 1
    ) -> None:
        """Make the weights.

        Args:
            channels: channels of the image.
            rows: rows of the covariance.
            units: values of the gate.
            strides: of the 1x1 convolution that reduces the channels.
        """
        self.reduce = keras.layers.Conv2D(
            self.reduced_channels,
            1,
            strides,
            **self.sublayer_arguments(
                data_format="channels_last", name="reduce"
            ),
        )
        self.reduce.build((None, None, None, channels))
        self.norm = self.make_batch_norm(
            "norm", (None, None, None, self.reduced_channels)
        )
        # A covariance leaves the range of float16, and what a normalization
        # makes of it does too until its moving averages have followed. What
        # comes of it is small: it is computed wide up to the sigmoid.
        self.row_norm = self.make_batch_norm(
            "row_norm",
            (None, rows, rows),
            axis=1,
            dtype=self.wide_sublayer_policy("row_norm"),
        )
        self.row_convolution = RowwiseDense(
            "bij,ijn->bin",
            (rows, self.expansion),
            bias_axes="in",
            **self.sublayer_arguments(
                name="row_convolution",
                dtype=self.wide_sublayer_policy("row_convolution"),
            ),
        )
        self.row_convolution.build((None, rows, rows))
        self.expand = keras.layers.Dense(
            units,
            **self.sublayer_arguments(
                activation="sigmoid",
                name="expand",
                dtype=self.wide_sublayer_policy("expand"),
            ),
        )
        self.expand.build((None, rows * self.expansion))

    def reduce_channels(self, inputs: Tensor, training: bool | None) -> Any:
        """ReLU, 1x1 convolution and batch normalization: `(B, H, W, d)`."""
        x = to_channels_last(ops.relu(inputs), self.data_format)
        return self.norm(self.reduce(x), training=training)

    def gate_of_covariance(
        self,
        covariance: Any,
        training: bool | None,
        activation: Callable | None = None,
    ) -> Any:
        """Return the gate, `(B, units)`, of a covariance, `(B, rows, rows)`.

        Each row has a batch normalization and filters of its own.
        """
        x = self.row_norm(covariance, training=training)  # [B, i, j]
        x = self.row_convolution(x)  # [B, i, n]
        x = ops.reshape(x, (-1, x.shape[1] * x.shape[2]))  # [B, i n]
        x = self.expand(x if activation is None else activation(x))
        return ops.cast(x, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduced_channels": self.reduced_channels,
            "expansion": self.expansion,
        }
