import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.vision.strided_depthwise_conv_2d import (
    StridedDepthwiseConv2D,
)
from keras_attention.layers.vision.whole_depthwise_conv_2d import (
    WholeDepthwiseConv2D,
)
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import spatial_axes
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.grid_pooling import local_average_pool
from keras_attention.ops.image.grid_pooling import nearest_resize
from keras_attention.ops.image.grid_pooling import scale_cells
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer


@register_attention("gather_excite", "ge")
class GatherExcite(WeightedLayer, BaseGate):
    """Gather-Excite: a gate per channel and neighborhood of the image.

    The image is gathered over neighborhoods of an `extent` e, excited, and
    spread over the image again by the nearest cell:

        g = gather(x)                                     # [B, h, w, C]
        s = sigmoid(excite(g)), resized                   # [B, H, W, C]
        y = x * s

    with h = ceil(H / e), w = ceil(W / e), and h = w = 1 for the global
    extent. The paper's three kinds are

        θ⁻: no arguments. The gather is an average pooling of size 2 e - 1 at
            stride e, whose padding does not count, or the global average.
        θ:  `learned_gather`. Depthwise 3x3 convolutions of stride 2, log2(e)
            of them, each with a batch normalization, and a ReLU between each
            two; for the global extent, one depthwise convolution with a
            kernel of the image's size and a batch normalization.
        θ⁺: `learned_gather` and `learned_excite`. After a ReLU, excite is the
            bottleneck of Squeeze-and-Excitation, of `channels // ratio`
            hidden units, on each cell.

    `learned_excite` alone excites what is gathered without parameters: for
    the global extent that is Squeeze-and-Excitation.

    Strided convolutions are padded by 1 on each side, for every size. Row
    `i` takes cell floor(i h / H). In a residual block the layer is after
    the last batch normalization and before the addition.

    Args:
        extent: 2, 4 or 8, or `None` for the whole image.
        learned_gather: whether the gather has weights.
        learned_excite: whether the excite has weights.
        ratio: positive integer; the hidden width of a learned excite is
            `channels // ratio`, at least one.
        kernel_initializer: initializer of the kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image tensor.
        training: whether the batch normalizations use the batch.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`; height and width not for the learned gather
        over the whole image.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range;
            at build, if the learned gather of the global extent is not given
            height and width.

    Reference:
        Hu et al., Gather-Excite: Exploiting Feature Context in Convolutional
        Neural Networks, NeurIPS 2018, arXiv:1810.12348, section 3.

    Example:

    >>> layer = keras_attention.GatherExcite(4, learned_gather=True)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> tuple(layer(x).shape), tuple(layer.compute_gate(x).shape)
    ((2, 7, 5, 16), (2, 7, 5, 16))
    >>> tuple(keras_attention.GatherExcite().compute_gate(x).shape)
    (2, 1, 1, 16)
    """

    def __init__(
        self,
        extent: int | None = None,
        learned_gather: bool = False,
        learned_excite: bool = False,
        ratio: int = 16,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.extent = check_choice("extent", extent, (None, 2, 4, 8))
        self.learned_gather = check_boolean("learned_gather", learned_gather)
        self.learned_excite = check_boolean("learned_excite", learned_excite)
        self.ratio = check_positive_integer("ratio", ratio)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        if self.learned_gather:
            self._build_gather(input_shape, channels)
        if self.learned_excite:
            units = bottleneck_width(channels, self.ratio)
            self.reduce = self._dense(units, "relu", "reduce")
            self.reduce.build((None, None, None, channels))
            self.expand = self._dense(channels, None, "expand")
            self.expand.build((None, None, None, units))

    def make_gate(self, inputs: Tensor, training: bool | None) -> Tensor:
        gate = self._gate_of_cells(inputs, training)  # [B, h, w, C]
        if self.extent is not None:
            rows, columns = spatial_axes(self.data_format)
            shape = ops.shape(inputs)
            gate = nearest_resize(gate, shape[rows], shape[columns])
        first = self.data_format == "channels_first"
        return ops.moveaxis(gate, -1, 1) if first else gate

    def scale(self, inputs: Tensor, training: bool | None) -> Tensor:
        # Without a gate of the image's size.
        gate = self._gate_of_cells(inputs, training)
        return scale_cells(inputs, gate, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "extent": self.extent,
            "learned_gather": self.learned_gather,
            "learned_excite": self.learned_excite,
            "ratio": self.ratio,
        }

    def _gate_of_cells(self, inputs, training):
        gathered = self._gather(inputs, training)  # [B, h, w, C]
        if self.learned_excite:
            if self.learned_gather:
                gathered = ops.relu(gathered)
            hidden = dense_positions(self.reduce, gathered)
            gathered = dense_positions(self.expand, hidden)
        return ops.sigmoid(gathered)

    def _gather(self, inputs, training):
        if not self.learned_gather and self.extent is None:
            mean = global_average_pool(inputs, self.data_format)  # [B, C]
            return mean[:, None, None, :]
        x = to_channels_last(inputs, self.data_format)
        if not self.learned_gather:
            pooled = local_average_pool(x, self.extent)
            return ops.cast(pooled, self.compute_dtype)
        for number, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            if number > 0:
                x = ops.relu(x)
            if self.extent is not None:
                x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = norm(convolution(x), training=training)
        return x

    def _build_gather(self, input_shape, channels):
        if self.extent is None:
            axes = spatial_axes(self.data_format)
            kernel_size = tuple(input_shape[axis] for axis in axes)
            if None in kernel_size:
                raise ValueError(
                    "GatherExcite's learned gather over the whole image has a "
                    "kernel of its size, and needs to know height and width. "
                    f"Received: input_shape={input_shape} for layer "
                    f"'{self.name}' with extent=None. Define the size of the "
                    "model's input, or set `extent` to 2, 4 or 8."
                )
            self.input_spec = keras.layers.InputSpec(
                ndim=4, axes=dict(enumerate(input_shape[1:], 1))
            )
            count, strides, kind = 1, 1, WholeDepthwiseConv2D
        else:
            kernel_size, strides = (3, 3), 2
            kind = StridedDepthwiseConv2D
            count = int(math.log2(self.extent))
        self.convolutions, self.norms = [], []
        for number in range(1, count + 1):
            convolution = kind(
                kernel_size,
                strides,
                use_bias=False,
                depthwise_initializer=clone_initializer(
                    self.kernel_initializer
                ),
                depthwise_regularizer=self.kernel_regularizer,
                data_format="channels_last",
                dtype=self.dtype_policy,
                name=f"gather{number}",
            )
            convolution.build((None, None, None, channels))
            self.convolutions.append(convolution)
            self.norms.append(
                self.make_batch_norm(
                    f"gather{number}_norm", (None, None, None, channels)
                )
            )

    def _dense(self, units, activation, name):
        return keras.layers.Dense(
            units, **self.sublayer_arguments(activation=activation, name=name)
        )
