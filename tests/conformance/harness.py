"""What the conformance tests do to a row of the table."""

import contextlib

import keras
import numpy as np
import pytest

from conformance.rows import Row
from support.arrays import numpy

BACKEND = keras.backend.backend()


def variants_slow(rows: list[Row]) -> list:
    """The rows to parametrize by; variants take minutes on TensorFlow.

    The other backends have no slow suite.
    """
    slow = [pytest.mark.slow] if BACKEND == "tensorflow" else []
    return [
        pytest.param(row, id=row.name, marks=slow if row.variant else [])
        for row in rows
    ]


def make_layer(row: Row, **kwargs):
    arguments = {**row.arguments, **kwargs}
    if row.has_data_format:
        arguments.setdefault("data_format", "channels_last")
    return (row.make or row.layer)(**arguments)


def random_input(row: Row, dtype="float32", seed=0, layer=None):
    """The input of a row, in the data format of `layer` if one is given."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=row.shape).astype(dtype)
    inner = getattr(layer, "layer", layer)
    first = getattr(inner, "data_format", None) == "channels_first"
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if first else x


def dynamic_shape(row: Row):
    """The row's shape without the batch, sizes unknown where they may be."""
    *sizes, channels = row.shape[1:]
    return (*(sizes if row.static_size else [None] * len(sizes)), channels)


def make_model(row: Row, dynamic=True, **kwargs):
    """A functional model of the layer alone, its weights drawn at random."""
    shape = dynamic_shape(row) if dynamic else row.shape[1:]
    inputs = keras.Input(shape, name="x", dtype=kwargs.pop("input_dtype", None))
    layer = make_layer(row, name="layer", **kwargs)
    model = keras.Model(inputs, layer(inputs))
    randomize(layer)
    return model


def randomize(layer, seed=1):
    """Draw the trainable weights anew: none is left at zero or one.

    Gates that start as the identity would otherwise hide what is behind
    them from every comparison.
    """
    generator = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        value = generator.normal(size=variable.shape)
        variable.assign((0.3 * value + 0.1).astype("float32"))


def randomize_all(layer, seed=3):
    """Set every weight, trainable or not, to values that are no default."""
    generator = np.random.default_rng(seed)
    for variable in layer.weights:
        value = 0.3 * generator.normal(size=variable.shape) + 0.1
        if "variance" in variable.path:
            value = np.abs(value) + 0.5
        if "int" not in variable.dtype:
            variable.assign(value.astype("float32"))


def gradients(model, x):
    """The gradient of the summed squared output to each trainable weight."""
    if not model.trainable_weights:
        return []
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=False) ** 2)
        found = tape.gradient(loss, [v.value for v in model.trainable_weights])
    elif BACKEND == "jax":
        import jax

        def loss(trainable):
            fixed = [v.value for v in model.non_trainable_variables]
            y, _ = model.stateless_call(trainable, fixed, x, training=False)
            return (y**2).sum()

        found = jax.grad(loss)([v.value for v in model.trainable_variables])
    else:
        model.zero_grad()
        (model(x, training=False) ** 2).sum().backward()
        found = [v.value.grad for v in model.trainable_variables]
    return [None if g is None else numpy(g) for g in found]


def float64_mode():
    """JAX computes in float64 only where it is told to."""
    if BACKEND != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)
