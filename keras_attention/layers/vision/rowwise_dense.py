"""A dense layer whose rows have kernels of their own."""

import keras


class RowwiseDense(keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` of an equation that Keras cannot quantize.

    An axis that the input, the kernel and the output share has one kernel
    for each of its entries, and Keras' int8 product knows no such axis. A
    subclass of `EinsumDense` is left in floating point by
    `keras.Model.quantize`. A part of other layers.
    """
