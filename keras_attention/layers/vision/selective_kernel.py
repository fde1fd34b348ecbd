from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.vision.grouped_conv_2d import GroupedConv2D
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import global_average_pool
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.precision import widen
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_positive_integers

# Of the moving averages.
MOMENTUM = 0.95


@register_attention("selective_kernel", "sk")
class SelectiveKernel(KernelLayer, BaseScoredLayer):
    """Selective kernel convolution: each channel chooses its receptive field.

    Branches of 3x3 convolutions that differ in their dilation, and so in how
    far they see, are mixed by a softmax over the branches, channel by
    channel:

        u_m = relu(BN(grouped 3x3 convolution of x, dilation m))
        z = mean over positions of the sum of all u_m     # [B, F]
        a = softmax over m of W2 relu(BN(W1 z))           # [B, m, F]
        y = sum over m of a_m * u_m                       # [B, H, W, F]

    W1 has d = max(F // ratio, min_units) units. Nothing has a bias, as in the
    authors' code. It replaces a 3x3 convolution with its
    normalization and ReLU in the middle of a bottleneck.

    For M branches, C input channels and F filters the layer has
    M·F·(9·C / groups + 2) + F·d + 2·d + d·M·F weights.

    Args:
        filters: positive integer; F, the output's channels. `None` for the
            input's.
        dilations: two or more different positive integers, one for each
            branch. A dilation of 2 sees 5x5 pixels, one of 3 sees 7x7.
        strides: positive integer; of all convolutions.
        groups: positive integer that divides the input's channels and the
            filters.
        ratio: positive integer.
        min_units: positive integer; `L` in the paper.
        kernel_initializer: initializer of the kernels.
        **kwargs: `kernel_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image tensor.
        training: whether the batch normalizations use the batch.
        return_attention_scores: whether to return `(outputs, a)`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`. Batch, height
        and width may be `None`.

    Output shape:
        The input's, with `filters` channels, and height and width divided by
        `strides` and rounded up. The scores are `(batch, branches, filters)`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range;
            at build, if `groups` does not divide the channels or filters.

    Reference:
        Li et al., Selective Kernel Networks, CVPR 2019, arXiv:1903.06586,
        equations 1 to 6.

    Example:

    >>> layer = keras_attention.SelectiveKernel(64, strides=2, groups=8)
    >>> x = np.ones((2, 7, 5, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 4, 3, 64), (2, 2, 64))
    """

    def __init__(
        self,
        filters: int | None = None,
        dilations: Sequence[int] = (1, 2),
        strides: int = 1,
        groups: int = 32,
        ratio: int = 16,
        min_units: int = 32,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.filters = check_optional_integer("filters", filters)
        self.dilations = check_positive_integers(
            "dilations", dilations, least=2
        )
        self.strides = check_positive_integer("strides", strides)
        self.groups = check_positive_integer("groups", groups)
        self.ratio = check_positive_integer("ratio", ratio)
        self.min_units = check_positive_integer("min_units", min_units)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        filters = self.filters or channels
        if channels % self.groups or filters % self.groups:
            raise ValueError(
                "SelectiveKernel's `groups` must divide the input's channels "
                f"and the filters. Received: groups={self.groups} for "
                f"{channels} channels and {filters} filters in layer "
                f"'{self.name}'."
            )
        self.convolutions, self.norms = [], []
        for dilation in self.dilations:
            name = f"dilation{dilation}"
            convolution = GroupedConv2D(
                filters,
                3,
                self.groups,
                self.strides,
                dilation,
                **self.sublayer_arguments(name=name),
            )
            convolution.build((None, None, None, channels))
            self.convolutions.append(convolution)
            self.norms.append(
                self.make_batch_norm(
                    f"{name}_norm", (None, None, None, filters), MOMENTUM
                )
            )
        units = max(filters // self.ratio, self.min_units)
        self.reduce = self._dense(units, filters, "reduce")
        self.reduce_norm = self.make_batch_norm(
            "reduce_norm", (None, units), MOMENTUM
        )
        self.expand = self._dense(
            len(self.dilations) * filters, units, "expand"
        )

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = to_channels_last(inputs, self.data_format)
        branches = [
            ops.relu(norm(convolution(x), training=training))
            for convolution, norm in zip(
                self.convolutions, self.norms, strict=True
            )
        ]  # M times [B, H, W, F]
        # The mean of the sum, without a sum that float16 may not hold.
        squeezed = sum(widen(global_average_pool(u)) for u in branches)
        hidden = self.reduce(ops.cast(squeezed, self.compute_dtype))  # [B, d]
        hidden = ops.relu(self.reduce_norm(hidden, training=training))
        logits = ops.reshape(
            self.expand(hidden), (-1, len(branches), branches[0].shape[-1])
        )
        scores = ops.softmax(widen(logits), axis=1)  # [B, M, F]
        weights = ops.cast(scores, self.compute_dtype)
        # `weights[:, branch, None, None]` is a slice that OpenVINO gets wrong.
        y = sum(
            u * ops.expand_dims(weights[:, branch], (1, 2))
            for branch, u in enumerate(branches)
        )
        return from_channels_last(y, self.data_format), scores

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self._convolved_shape(input_shape, self.filters, self.strides)

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        filters = self.filters or input_shape[self.channel_axis]
        return (input_shape[0], len(self.dilations), filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "dilations": self.dilations,
            "strides": self.strides,
            "groups": self.groups,
            "ratio": self.ratio,
            "min_units": self.min_units,
        }

    def _dense(self, units, width, name):
        dense = keras.layers.Dense(
            units, **self.sublayer_arguments(use_bias=False, name=name)
        )
        dense.build((None, width))
        return dense
