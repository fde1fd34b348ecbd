"""A convolution of few channels to few, as two short steps and one product.

`B` batch, `H` height, `W` width, `C` channels, `K` size of the kernel, `F`
filters.

Such a convolution is little work, but TensorFlow's own copies every window
of K x K positions first. Here the K columns of a window are put side by side,
a product takes them to each of the K rows' part of the output, and the parts
are added, each moved by its row.
"""

from typing import Any

import keras

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def narrow_convolution(x: Tensor, kernel: Tensor) -> Any:
    """Convolve with zeros around, the same number on each side.

    On TensorFlow, and on the CPU through torch, half precision is summed in
    float32. On TensorFlow the gradient is written by hand; it can be
    differentiated again.

    Args:
        x: image of shape `(B, H, W, C)`, where C is small.
        kernel: of shape `(K, K, C, F)`, where K is odd and F is small.

    Returns:
        Tensor of shape `(B, H, W, F)`.
    """
    if keras.backend.backend() == "torch":
        return _convolve_torch(x, kernel)
    if keras.backend.backend() != "tensorflow":
        return keras.ops.conv(x, kernel, 1, "same", "channels_last")
    import tensorflow as tf

    x, kernel = tf.convert_to_tensor(x), tf.convert_to_tensor(kernel)
    y = _convolve_tensorflow(widen(x), widen(kernel))
    return tf.cast(y, x.dtype)


def _convolve_torch(x, kernel):
    x, kernel = (keras.ops.convert_to_tensor(value) for value in (x, kernel))
    dtype = x.dtype
    if x.device.type == "cpu":
        # Its convolution to one filter has no gradient in half precision.
        x, kernel = widen(x), widen(kernel)
    y = keras.ops.conv(x, kernel, 1, "same", "channels_last")
    return keras.ops.cast(y, dtype)


def _convolve_tensorflow(x, kernel):
    import tensorflow as tf

    size, channels, filters = kernel.shape[1:]
    reach = (size - 1) // 2

    @tf.custom_gradient
    def convolve(x, kernel):
        height, width = tf.shape(x)[1], tf.shape(x)[2]
        padded = tf.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
        columns = tf.concat(
            [padded[:, :, k : k + width] for k in range(size)], -1
        )  # [B, H + K - 1, W, K * C]
        matrix = _by_columns(kernel)  # [K * C, K * F]
        parts = tf.split(_product(columns, matrix), size, -1)

        def gradient(upstream):
            rows = tf.concat(
                [_pad(upstream, 1, k, size - 1 - k) for k in range(size)], -1
            )  # [B, H + K - 1, W, K * F]
            of_columns = tf.split(
                _product(rows, tf.transpose(matrix)), size, -1
            )
            of_padded = tf.add_n(
                [
                    _pad(part, 2, k, size - 1 - k)
                    for k, part in enumerate(of_columns)
                ]
            )
            of_matrix = tf.matmul(
                tf.reshape(columns, (-1, size * channels)),
                tf.reshape(rows, (-1, size * filters)),
                transpose_a=True,
            )
            of_matrix = tf.reshape(of_matrix, (size, channels, size, filters))
            return (
                of_padded[:, reach : reach + height, reach : reach + width],
                tf.transpose(of_matrix, (2, 0, 1, 3)),
            )

        y = tf.add_n([part[:, k : k + height] for k, part in enumerate(parts)])
        return y, gradient

    y = convolve(x, kernel)
    # Not `ensure_shape`, an operation that LiteRT lacks.
    y.set_shape((*x.shape[:3], filters))
    return y


def _by_columns(kernel):
    """`(K, K, C, F)`, rows first, to `(K * C, K * F)`, columns first."""
    import tensorflow as tf

    size, _, channels, filters = kernel.shape
    kernel = tf.transpose(kernel, (1, 2, 0, 3))
    return tf.reshape(kernel, (size * channels, size * filters))


def _product(x, matrix):
    import tensorflow as tf

    flat = tf.reshape(x, (-1, x.shape[-1])) @ matrix
    return tf.reshape(flat, (*tf.unstack(tf.shape(x))[:3], matrix.shape[-1]))


def _pad(x, axis, before, after):
    import tensorflow as tf

    padding = [(0, 0)] * 4
    padding[axis] = (before, after)
    return tf.pad(x, padding)
