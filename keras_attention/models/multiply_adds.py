"""Multiply-adds of a model, counted as the papers count them."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from typing import Any

import keras
from keras import layers

DENSE = (layers.Dense, layers.EinsumDense)
CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)


def count_multiply_adds(
    model: keras.layers.Layer, input_shape: tuple | None = None
) -> int:
    """Multiply-adds of the convolutions and dense layers for one example.

    That is what papers on networks count: one for a weight and the value it
    is multiplied with. Biases, normalizations, poolings, activations and
    products of two activations, such as covariances or attention scores, are
    left out. Layers inside layers are counted, and a layer that is called
    twice counts twice. Nothing is computed: the model is called on shapes.

    Args:
        model: a functional or Sequential model, or any built or unbuilt
            layer together with `input_shape`. A layer that is not built yet
            is built for that shape.
        input_shape: shape of one example, without the batch; needed unless
            the model's inputs have defined shapes.

    Returns:
        Number of multiply-adds.

    Raises:
        ValueError: If the shape of an input is not known.

    Example:

    >>> model = keras_attention.models.ResNet(50)
    >>> f"{count_multiply_adds(model):,}"
    '3,857,973,248'
    >>> layer = keras_attention.SqueezeExcite()  # dense 64 to 4, 4 to 64
    >>> count_multiply_adds(layer, input_shape=(56, 56, 64))
    512
    """
    inputs = _inputs(model, input_shape)
    if not model.built:
        model.build(inputs.shape)
    counts: list[int] = []
    trace = _Trace(model, counts)
    with ExitStack() as stack:
        for layer in model._flatten_layers():
            if isinstance(layer, DENSE + CONVOLUTIONS + TRANSPOSED):
                stack.enter_context(_listen(layer, counts))
        trace.compute_output_spec(inputs)
    return sum(counts)


def _inputs(model, input_shape):
    """Symbolic inputs of one example, in the structure the model takes."""
    if input_shape is not None:
        known = [d for d in input_shape if isinstance(d, int) and d > 0]
        if len(known) < len(input_shape):
            raise ValueError(
                "`input_shape` must be the shape of one example, without the "
                f"batch, all defined. Received: input_shape={input_shape!r}"
            )
        return keras.KerasTensor((1, *input_shape))
    inputs = None
    if isinstance(model, keras.Sequential):
        inputs = model.inputs[0] if model.built else None
    elif isinstance(model, keras.Model):
        inputs = getattr(model, "input", None)
    shapes = [
        tuple(x.shape[1:]) for x in keras.tree.flatten(inputs) if x is not None
    ]
    if not shapes or any(None in shape for shape in shapes):
        raise ValueError(
            "The multiply-adds depend on the shape of the input, which "
            f"'{model.name}' does not define. Give `input_shape`, without "
            f"the batch. Received: input_shape=None, inputs of {shapes}"
        )
    return keras.tree.map_structure(
        lambda x: keras.KerasTensor((1, *x.shape[1:]), x.dtype), inputs
    )


class _Trace(keras.Operation):
    """Calls a model on shapes, through its layers' own `call` methods."""

    def __init__(self, model: keras.layers.Layer, counts: list[int]):
        super().__init__()
        self.model = model
        self.counts = counts

    def call(self, inputs):
        # A backend may trace more than once.
        self.counts.clear()
        return self.model(inputs, training=False)


@contextmanager
def _listen(layer: Any, counts: list[int]) -> Iterator[None]:
    original = layer.call

    def call(inputs, *args, **kwargs):
        outputs = original(inputs, *args, **kwargs)
        counts.append(_multiply_adds(layer, inputs.shape, outputs.shape))
        return outputs

    # Set past Keras' attribute tracking; deleting it restores the method.
    layer.__dict__["call"] = call
    try:
        yield
    finally:
        del layer.__dict__["call"]


def _multiply_adds(layer, input_shape, output_shape):
    outputs = math.prod(output_shape)
    if isinstance(layer, layers.EinsumDense):
        names, result = layer.equation.split(",")[1].split("->")
        summed = [
            size
            for name, size in zip(names, layer.kernel.shape, strict=True)
            if name not in result
        ]
        return outputs * math.prod(summed)
    if isinstance(layer, layers.Dense):
        return outputs // layer.units * math.prod(layer.kernel.shape)
    if isinstance(layer, TRANSPOSED):
        channels = layer.kernel.shape[-1]
        positions = math.prod(input_shape) // channels
        return positions * math.prod(layer.kernel.shape)
    axis = -1 if layer.data_format == "channels_last" else 1
    positions = outputs // output_shape[axis]
    kernels = (
        [layer.depthwise_kernel, layer.pointwise_kernel]
        if hasattr(layer, "pointwise_kernel")
        else [layer.kernel]
    )
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)
