import math
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_image_layer import ANY_RANK
from keras_attention.layers.vision.base_scored_layer import BaseScoredLayer
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.ops.image import pairwise
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.masking import fill_masked
from keras_attention.ops.image.masking import zero_masked
from keras_attention.types import InitializerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_optional_integer

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


@register_attention("non_local", "nl")
class NonLocal(WeightedLayer, BaseScoredLayer):
    """Non-local block: every position attends to every other.

    With θ, φ, g and w dense layers over channels, i one of the N = H·W
    positions, and j one of the M that are attended to:

        f_ij = exp(θ(x_i) · φ(x_j) / √d)       mode="embedded_gaussian"
        f_ij = exp(x_i · x_j)                  mode="gaussian"
        f_ij = θ(x_i) · φ(x_j)                 mode="dot_product"
        f_ij = relu(v · [θ(x_i), φ(x_j)])      mode="concatenation"
        y_i = x_i + BN(w(sum over j of s_ij g(x_j)))

    The scores s are f over its sum for the two exponentials, which makes a
    softmax, and f / M for the other two. The batch normalization's gamma
    starts at zero, as the authors': the layer starts as the identity.

    The defaults are those of the authors' code. It divides by √d where the
    paper does not (`use_scale=False`), and takes the M positions from the
    image after a 2x2 maximum pooling, which the paper has as an option
    (`sub_sample=False`); an odd last row or column is then not attended to,
    unless it is the only one.
    A bias of φ would add the same to all scores of a softmax, and so has no
    effect: in `"embedded_gaussian"` φ has none here, though the authors' has.

    N·M scores are held in float32: for large images take `sub_sample`.

    Of a sequence, every two positions are pooled, and of a volume 2x2x2. A
    sequence that is padded at the start by an odd number is pooled in other
    pairs than it is by itself, and one of odd length that is padded at the
    end keeps its last position: `sub_sample=False` makes the padding as if it
    were not there.

    Args:
        reduced_channels: positive integer; d, the width of θ, φ and g. `None`
            for half of the channels, at least one.
        mode: `"embedded_gaussian"`, `"gaussian"`, `"dot_product"` or
            `"concatenation"`.
        use_scale: whether f's products are divided by the root of their
            width, which `"concatenation"` has none of. `None` does so in
            `"embedded_gaussian"` alone.
        sub_sample: whether the positions attended to are pooled 2x2.
        gamma_initializer: initializer of the batch normalization's gamma.
        kernel_initializer: initializer of the kernels.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: image, sequence or volume.
        training: whether the batch normalization uses the batch.
        return_attention_scores: whether to return `(outputs, s)`.
        mask: boolean tensor `(batch, time)` of a sequence: where it is
            `False`, the input has no effect on other positions, and the
            output is of no meaning. Masks of images and volumes are passed on
            unused.

    Input shape:
        An image `(batch, height, width, channels)`, a sequence
        `(batch, time, channels)` or a volume
        `(batch, depth, height, width, channels)`; with the channels second
        for `channels_first`. All but the channels may be `None`.

    Output shape:
        The input's; the scores are `(batch, N, M)`, positions row by row.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Wang et al., Non-local Neural Networks, CVPR 2018, arXiv:1711.07971,
        equations 1 to 6.

    Example:

    >>> layer = keras_attention.NonLocal()
    >>> x = np.ones((2, 6, 4, 16), "float32")
    >>> y, scores = layer(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 6, 4, 16), (2, 24, 6))
    """

    ranks: ClassVar[tuple[int, ...]] = ANY_RANK

    def __init__(
        self,
        reduced_channels: int | None = None,
        mode: str = "embedded_gaussian",
        use_scale: bool | None = None,
        sub_sample: bool = True,
        gamma_initializer: InitializerLike = "zeros",
        kernel_initializer: InitializerLike = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.reduced_channels = check_optional_integer(
            "reduced_channels", reduced_channels
        )
        self.mode = check_choice("mode", mode, MODES)
        self.use_scale = use_scale
        if use_scale is not None:
            check_boolean("use_scale", use_scale)
            if mode == "concatenation":
                raise ValueError(
                    "`use_scale` is about the products of the other modes; "
                    "mode='concatenation' has none. Received: "
                    f"use_scale={use_scale}. Leave it out."
                )
        self.sub_sample = check_boolean("sub_sample", sub_sample)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build_weights(self, input_shape: Shape, channels: int) -> None:
        width = self.reduced_channels or max(1, channels // 2)
        self.value = self._dense(width, channels, "value")
        if self.mode != "gaussian":
            self.query = self._dense(width, channels, "query")
            self.key = self._dense(
                width,
                channels,
                "key",
                use_bias=self.mode != "embedded_gaussian",
            )
        if self.mode == "concatenation":
            self.query_logit = self._dense(
                1, width, "query_logit", use_bias=False
            )
            self.key_logit = self._dense(1, width, "key_logit", use_bias=False)
        # Sums that no softmax weights leave the range of float16.
        is_softmax = "gaussian" in self.mode
        find_policy = (
            self.sublayer_policy if is_softmax else self.wide_sublayer_policy
        )
        self.project = self._dense(
            channels, width, "project", dtype=find_policy("project")
        )
        self.norm = self.make_batch_norm(
            "norm",
            (None, None, channels),
            gamma_initializer=clone_initializer(self.gamma_initializer),
            dtype=find_policy("norm"),
        )

    def attend(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        image = to_channels_last(inputs, self.data_format)
        shape = ops.shape(image)
        x = _positions(image)  # [B, N, C]
        attended = x
        key_mask = mask
        if self.sub_sample:
            image = fill_masked(image, mask, -math.inf, "channels_last")
            image = _pool_pairs(image)
            if mask is not None:
                # A pair without anything: `-inf` from the maximum.
                ones = ops.cast(ops.cast(mask, "bool"), "float32")[..., None]
                key_mask = _pool_pairs(ones)[..., 0] > 0  # [B, M]
                image = zero_masked(image, key_mask, "channels_last")
            attended = _positions(image)  # [B, M, C]
        scores = self._scores(x, attended, key_mask)  # [B, N, M]
        y = pairwise.weighted_values(scores, self.value(attended))
        y = self.project(ops.cast(y, self.project.compute_dtype))  # [B, N, C]
        y = self.norm(y, training=training, mask=mask)
        y = ops.cast(ops.reshape(y, shape), self.compute_dtype)
        return inputs + from_channels_last(y, self.data_format), scores

    def compute_scores_shape(self, input_shape: Shape) -> Shape:
        sizes = self._spatial_shape(input_shape)
        if None in sizes:
            return (input_shape[0], None, None)
        pooled = sizes
        if self.sub_sample:
            pooled = [max(1, size // 2) for size in sizes]
        return (input_shape[0], math.prod(sizes), math.prod(pooled))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduced_channels": self.reduced_channels,
            "mode": self.mode,
            "use_scale": self.use_scale,
            "sub_sample": self.sub_sample,
            "gamma_initializer": keras.initializers.serialize(
                self.gamma_initializer
            ),
        }

    def _scores(self, x, attended, key_mask):
        query, key = x, attended
        if self.mode != "gaussian":
            query, key = self.query(x), self.key(attended)
        if self.mode == "concatenation":
            return pairwise.sum_scores(
                self.query_logit(query), self.key_logit(key), key_mask
            )
        scaled = self.use_scale
        if scaled is None:
            scaled = self.mode == "embedded_gaussian"
        scale = query.shape[-1] ** -0.5 if scaled else 1.0
        if self.mode == "dot_product":
            return pairwise.product_scores(query, key, scale, key_mask)
        return pairwise.softmax_scores(query, key, scale, key_mask)

    def _dense(self, units, width, name, **arguments):
        dense = keras.layers.Dense(
            units, **self.sublayer_arguments(name=name, **arguments)
        )
        dense.build((None, None, width))
        return dense


def _positions(image):
    """The positions of an image in a row: `(B, H, W, C)` to `(B, H·W, C)`."""
    batch, *sizes, channels = ops.shape(image)
    return ops.reshape(image, (batch, math.prod(sizes), channels))


def _pool_pairs(image):
    """The maximum of every two positions of each axis; a size of 1 stays."""
    for axis in range(1, len(image.shape) - 1):
        before, size = (slice(None),) * axis, image.shape[axis]
        if size == 1:
            image = ops.repeat(image, 2, axis=axis)
        elif size is None:
            # One more row, which only an image of a single row keeps.
            last = image[(*before, slice(-1, None))]
            image = ops.concatenate([image, last], axis=axis)
            kept = ops.maximum((ops.shape(image)[axis] - 1) // 2 * 2, 2)
            image = image[(*before, slice(kept))]
    if len(image.shape) != 4:
        # TensorFlow pools no volume of float16 or float64 on the CPU.
        for axis in range(1, len(image.shape) - 1):
            image = _maximum_of_pairs(image, axis)
        return image
    return ops.max_pool(image, 2, strides=2, data_format="channels_last")


def _maximum_of_pairs(x, axis):
    shape = list(ops.shape(x))
    before, pairs = (slice(None),) * axis, shape[axis] // 2
    shape[axis : axis + 1] = [pairs, 2]
    x = ops.reshape(x[(*before, slice(2 * pairs))], shape)
    return ops.max(x, axis=axis + 1)
