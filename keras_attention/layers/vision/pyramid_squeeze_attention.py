from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.vision.grouped_conv_2d import GroupedConv2D
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import bottleneck_width
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@register_attention("pyramid_squeeze_attention", "epsa", "epsanet")
class PyramidSqueezeAttention(WeightedLayer, BaseScoredLayer):
    """Pyramid squeeze attention: scales that compete for each channel.

    Convolutions of several kernel sizes each make a part of the channels. One
    squeeze-and-excitation, whose weights all parts share, says how much each
    matters, and a softmax lets the parts compete:

        u_i = grouped convolution of x, K_i x K_i      # [B, H, W, F / S]
        e_i = sigmoid(W2 relu(W1 (mean of u_i) + b1) + b2)
        a = softmax of e over the parts                # [B, S, F / S]
        y = concatenation of the a_i u_i, the last one first

    For S parts. The order of the parts is that of the authors' code. The
    layer has the sum of K_i²·C·F / (S·groups_i) weights, and 2·d·F / S + d +
    F / S of the squeeze-and-excitation, d = F / S // ratio. It replaces a 3x3
    convolution in a bottleneck; a normalization and ReLU follow.

    Args:
        filters: Integer F, the output's channels. Defaults to `None`, the
            input's.
        kernel_sizes: Sequence of two or more odd integers K_i. Defaults to
            `(3, 5, 7, 9)`.
        groups: Sequence of integers, as many as `kernel_sizes`: the groups of
            each convolution, which divide the input's channels and F / S.
            Defaults to `(1, 4, 8, 16)`.
        strides: Integer, of the convolutions. Defaults to `1`.
        ratio: Integer, by which the squeezed width is smaller. Defaults to
            `16`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"he_normal"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Image tensor.
        training: Boolean, has no effect.
        return_attention_scores: Boolean, whether to return a as well.
            Defaults to `False`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's, with `filters` channels, and height and width divided by
        `strides` and rounded up. The scores are `(batch, S, filters / S)`.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if the parts or groups do not divide the channels.

    Reference:
        Zhang et al., EPSANet: An Efficient Pyramid Squeeze Attention Block on
        Convolutional Neural Network, ACCV 2022, arXiv:2105.14447, equations 3
        to 11.

    Example:

    >>> layer = keras_attention.PyramidSqueezeAttention()
    >>> x = np.ones((2, 7, 5, 64), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 7, 5, 64), (2, 4, 16))
    """

    def __init__(
        self,
        filters: int | None = None,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        groups: Sequence[int] = (1, 4, 8, 16),
        strides: int = 1,
        ratio: int = 16,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.filters = check_optional_integer("filters", filters)
        self.kernel_sizes = _checked(
            "kernel_sizes", kernel_sizes, check_odd_integer
        )
        if len(self.kernel_sizes) < 2:
            raise ValueError(
                "`kernel_sizes` must be two or more: the parts compete. "
                f"Received: kernel_sizes={self.kernel_sizes}"
            )
        self.groups = _checked("groups", groups, check_positive_integer)
        if len(self.groups) != len(self.kernel_sizes):
            raise ValueError(
                "`groups` must have as many numbers as `kernel_sizes`. "
                f"Received: groups={self.groups}, kernel_sizes="
                f"{self.kernel_sizes}"
            )
        self.strides = check_positive_integer("strides", strides)
        self.ratio = check_positive_integer("ratio", ratio)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        parts = len(self.kernel_sizes)
        filters = self.filters or channels
        width = filters // parts
        if filters % parts or any(
            channels % groups or width % groups for groups in self.groups
        ):
            raise ValueError(
                "PyramidSqueezeAttention's number of `kernel_sizes` must "
                "divide the filters, and each of its `groups` the input's "
                f"channels and a part of the filters. Received: {parts} "
                f"kernel sizes and groups={self.groups} for {channels} "
                f"channels and {filters} filters in layer '{self.name}'."
            )
        self.convolutions = []
        sizes = zip(self.kernel_sizes, self.groups, strict=True)
        for number, (size, groups) in enumerate(sizes, 1):
            convolution = GroupedConv2D(
                width,
                size,
                groups,
                self.strides,
                **self.sublayer_arguments(name=f"convolution_{number}"),
            )
            convolution.build((None, None, None, channels))
            self.convolutions.append(convolution)
        units = bottleneck_width(width, self.ratio)
        self.squeeze = self._dense("squeeze", width, units)
        self.excite = self._dense("excite", units, width)

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Any, Any]:
        x = to_channels_last(inputs, self.data_format)
        parts = [convolution(x) for convolution in self.convolutions]
        means = ops.stack([global_average_pool(u) for u in parts], axis=1)
        hidden = ops.relu(self.squeeze(ops.cast(means, self.compute_dtype)))
        gates = ops.sigmoid(widen(self.excite(hidden)))  # [B, S, F / S]
        scores = ops.softmax(gates, axis=1)
        weights = ops.cast(scores, self.compute_dtype)
        weighted = [
            u * ops.expand_dims(weights[:, number], (1, 2))
            for number, u in enumerate(parts)
        ]
        y = ops.concatenate(weighted[::-1], axis=-1)
        return from_channels_last(y, self.data_format), scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._convolved_shape(input_shape, self.filters, self.strides)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        parts = len(self.kernel_sizes)
        filters = self.filters or input_shape[self.channel_axis]
        return (input_shape[0], parts, filters // parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_sizes": self.kernel_sizes,
            "groups": self.groups,
            "strides": self.strides,
            "ratio": self.ratio,
        }

    def _dense(self, name, channels, units):
        dense = keras.layers.Dense(units, **self.sublayer_arguments(name=name))
        dense.build((None, None, channels))
        return dense


def _checked(name, numbers, check):
    if not isinstance(numbers, list | tuple) or not numbers:
        raise TypeError(
            f"`{name}` must be a list or tuple of integers. Received: "
            f"{name}={numbers!r} (of type {type(numbers).__name__})"
        )
    return tuple(check(name, number) for number in numbers)
