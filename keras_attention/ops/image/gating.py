"""Means and scaling: what every gate does to an image before and after.

`B` batch, `H` height, `W` width, `C` channels. A sequence `(B, T, C)` and a
volume `(B, D, H, W, C)` are taken in an image's place wherever no rank is said.

On TensorFlow the gradients of the two are written by hand, since the
automatic ones write several tensors of the image's size that are soon thrown
away; what they compute is the same, and can be differentiated again.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_attention.ops.compilation import inside_xla
from keras_attention.ops.image.sums import mean_over_positions
from keras_attention.ops.image.sums import sum_over_positions
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

# Bytes of one image from which its part of a gate's gradient is computed by
# itself: below that, starting the loop costs more than memory traffic.
LOOP_BYTES = 2**20
# Positions up to which TensorFlow's pooling, which adds them in a row, is
# right to a few roundings; it is the fastest for small images.
POOLED_POSITIONS = 2**8


def spatial_axes(data_format: str, rank: int = 4) -> tuple[int, ...]:
    """Return the axes of the positions: height and width of an image."""
    first = 1 if data_format == "channels_last" else 2
    return tuple(range(first, first + rank - 2))


def global_average_pool(x: Tensor, data_format: str = "channels_last") -> Any:
    """Average height and width: `(B, H, W, C)` to `(B, C)`.

    Half-precision images are summed in float32, since 65,504 is soon passed
    by a sum over positions; and no sum adds a large image's positions one
    after the other, which would round the small ones away.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Tensor of shape `(B, C)`, of the dtype of `x`.

    Example:

    >>> from keras_attention.ops import global_average_pool
    >>> x = np.full((1, 1024, 1024, 2), 0.1, "float32")
    >>> bool(abs(global_average_pool(x)[0, 0] / 0.1 - 1) < 1e-5)
    True
    """
    x = ops.convert_to_tensor(x)
    mean = mean_over_positions(x, spatial_axes(data_format, len(x.shape)))
    return ops.cast(mean, x.dtype)


def means_and_image(
    x: Tensor, data_format: str = "channels_last"
) -> tuple[Any, Any]:
    """Return `global_average_pool(x)`, and `x` again, to be scaled.

    A gate needs its image twice. Where both uses go through this function,
    their gradients are added in one pass over the image.

    Args:
        x: image of shape `(B, H, W, C)`, or `(B, C, H, W)` for
            `channels_first`.
        data_format: `"channels_last"` or `"channels_first"`.
    """
    if keras.backend.backend() == "tensorflow":
        return _means_and_image_tensorflow(x, data_format)
    return global_average_pool(x, data_format), x


def apply_gate(x: Tensor, gate: Tensor) -> Any:
    """Multiply an image by a gate.

    Args:
        x: image, sequence or volume.
        gate: tensor that broadcasts to `x`, such as `(B, 1, 1, C)` for one
            value per channel. It is cast to the dtype of `x`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:

    >>> from keras_attention.ops import apply_gate
    >>> x = np.ones((2, 7, 5, 3), "float32")
    >>> gate = np.array([0.0, 0.5, 1.0], "float32").reshape(1, 1, 1, 3)
    >>> keras.ops.convert_to_numpy(apply_gate(x, gate))[0, 0, 0]
    array([0. , 0.5, 1. ], dtype=float32)
    """
    x = ops.convert_to_tensor(x)
    gate = ops.cast(gate, x.dtype)
    if keras.backend.backend() == "tensorflow" and _sums_by_image(x, gate):
        return _apply_gate_tensorflow(x, gate)
    return x * gate


def expand_channel_gate(
    gate: Tensor, data_format: str = "channels_last", rank: int = 4
) -> Any:
    """Reshape a gate per channel, `(B, C)`, so that it scales an image.

    Args:
        gate: tensor of shape `(B, C)`.
        data_format: `"channels_last"` or `"channels_first"`.
        rank: of what is scaled: 3, 4 or 5. Defaults to 4.
    """
    return ops.expand_dims(gate, spatial_axes(data_format, rank))


def expand_spatial_gate(
    gate: Tensor, data_format: str = "channels_last"
) -> Any:
    """Reshape a gate per position, `(B, H, W)`, so that it scales an image."""
    return ops.expand_dims(gate, -1 if data_format == "channels_last" else 1)


def to_channels_last(x: Tensor, data_format: str) -> Any:
    """Turn an image of either data format into `(B, H, W, C)`.

    TensorFlow has no channels-first convolutions on the CPU.
    """
    return x if data_format == "channels_last" else ops.moveaxis(x, 1, -1)


def from_channels_last(x: Tensor, data_format: str) -> Any:
    """Turn `(B, H, W, C)` back into an image of `data_format`."""
    return x if data_format == "channels_last" else ops.moveaxis(x, -1, 1)


def _means_and_image_tensorflow(x, data_format):
    import tensorflow as tf

    @tf.custom_gradient
    def both(x):
        def gradient(upstream_mean, upstream_x):
            shape, rank = tf.shape(x), len(x.shape)
            axes = spatial_axes(data_format, rank)
            number = math.prod(shape[axis] for axis in axes)
            share = widen(upstream_mean) / tf.cast(
                number, widen(upstream_mean).dtype
            )
            share = tf.cast(share, x.dtype)
            return upstream_x + expand_channel_gate(share, data_format, rank)

        return (_mean_tensorflow(x, data_format), tf.identity(x)), gradient

    return both(tf.convert_to_tensor(x))


def _mean_tensorflow(x, data_format):
    """As `global_average_pool`; for small images a pooling is faster."""
    import tensorflow as tf

    size = x.shape[1:3]
    if (
        data_format == "channels_first"
        or len(x.shape) != 4
        or None in size
        or math.prod(size) > POOLED_POSITIONS
    ):
        return global_average_pool(x, data_format)
    mean = tf.nn.avg_pool2d(widen(x), size, 1, "VALID")[:, 0, 0]
    return tf.cast(mean, x.dtype)


def _sums_by_image(x, gate):
    """Whether the gate's gradient is worth a way of its own.

    It is if the gate has one value for many of the image's, and if the loop
    that it takes outside XLA has enough to do.
    """
    image, factor = x.shape[1:], gate.shape[1:]
    if len(image) != len(factor) or None in (*image, *factor):
        return False
    return math.prod(factor) < math.prod(image) and (
        inside_xla() or math.prod(image) * x.dtype.size >= LOOP_BYTES
    )


def _apply_gate_tensorflow(x, gate):
    import tensorflow as tf

    axes = [a for a in range(1, len(x.shape)) if gate.shape[a] != x.shape[a]]

    @tf.custom_gradient
    def scale(x, gate):
        def gradient(upstream):
            if inside_xla():
                of_gate = _sum_of_products(x, upstream, axes)
                return upstream * gate, tf.cast(of_gate, gate.dtype)

            def of_one_image(index):
                one, its_upstream = x[index][None], upstream[index][None]
                found = _sum_of_products(one, its_upstream, axes)[0]
                return tf.cast(found, gate.dtype)

            of_gate = tf.map_fn(
                of_one_image,
                tf.range(tf.shape(x)[0]),
                fn_output_signature=tf.TensorSpec(gate.shape[1:], gate.dtype),
            )
            return upstream * gate, of_gate

        return x * gate, gradient

    return scale(x, gate)


def _sum_of_products(x, upstream, axes):
    """Sum of the products over axes, which are kept."""
    import tensorflow as tf

    product = widen(x * upstream)
    rank = len(x.shape)
    if tuple(axes) in (
        spatial_axes("channels_last", rank),
        spatial_axes("channels_first", rank),
    ):
        total = sum_over_positions(product, axes)
        return ops.expand_dims(total, axes)
    return tf.reduce_sum(product, axes, keepdims=True)
