"""Dense layers between the features of a token and those of its heads."""

from typing import Any

import keras
from keras import ops

from keras_attention.types import Shape
from keras_attention.types import Tensor

# Axes of the output of a projection, after those of the input.
LETTERS = "efghij"


@keras.saving.register_keras_serializable(package="keras_attention")
class MatrixInitializer(keras.initializers.Initializer):
    """Draws a kernel of several axes as the matrix that it multiplies by.

    Initializers that scale by the number of inputs and outputs would take
    heads for something else, as they do for the positions of a convolution.

    Args:
        initializer: Initializer of the matrix `(inputs, outputs)`.
        input_axes: Integer, number of axes of the kernel that are inputs.
    """

    def __init__(self, initializer: Any, input_axes: int):
        self.initializer = keras.initializers.get(initializer)
        self.input_axes = input_axes

    def __call__(self, shape: Shape, dtype: Any = None) -> Any:
        inputs = shape[: self.input_axes]
        outputs = shape[self.input_axes :]
        matrix = self.initializer((_product(inputs), _product(outputs)), dtype)
        return ops.reshape(matrix, shape)

    def get_config(self) -> dict[str, Any]:
        return {
            "initializer": keras.initializers.serialize(self.initializer),
            "input_axes": self.input_axes,
        }


def dense_to_heads(
    heads: int,
    width: int,
    use_bias: bool,
    kernel_initializer: Any,
    **arguments: Any,
) -> keras.layers.EinsumDense:
    """Returns a layer from `(B, T, features)` to `(B, T, heads, width)`.

    Args:
        heads: Integer, number of heads.
        width: Integer, features of a head.
        use_bias: Boolean, whether there are biases.
        kernel_initializer: Initializer of the matrix.
        **arguments: Arguments of `keras.layers.EinsumDense`.
    """
    return keras.layers.EinsumDense(
        "abc,cde->abde",
        output_shape=(None, heads, width),
        bias_axes="de" if use_bias else None,
        kernel_initializer=MatrixInitializer(kernel_initializer, 1),
        **arguments,
    )


def dense_from_heads(
    output_shape: Shape,
    use_bias: bool,
    kernel_initializer: Any,
    **arguments: Any,
) -> keras.layers.EinsumDense:
    """Returns a layer from `(B, T, heads, width)` to `(B, T, *output_shape)`.

    Args:
        output_shape: Tuple of integers, the features of a token.
        use_bias: Boolean, whether there are biases.
        kernel_initializer: Initializer of the matrix.
        **arguments: Arguments of `keras.layers.EinsumDense`.
    """
    axes = LETTERS[: len(output_shape)]
    return keras.layers.EinsumDense(
        f"abcd,cd{axes}->ab{axes}",
        output_shape=(None, *output_shape),
        bias_axes=axes if use_bias else None,
        kernel_initializer=MatrixInitializer(kernel_initializer, 2),
        **arguments,
    )


def project(dense: keras.layers.Layer, x: Tensor) -> Any:
    """Applies a layer to tokens, of which there may be none.

    Keras' product loses the batch of sequences that are known to be empty, and
    that of a layer in float64 is float32 on torch.

    Args:
        dense: Layer.
        x: Tensor `(B, T, ...)`.
    """
    if x.shape[1] != 0:
        return ops.cast(dense(x), dense.compute_dtype)
    width = [(0, 0)] * (len(x.shape) - 2)
    y = dense(ops.pad(x, [(0, 0), (0, 1), *width]))[:, :0]
    return ops.cast(y, dense.compute_dtype)


def _product(sizes):
    product = 1
    for size in sizes:
        product *= size
    return product
