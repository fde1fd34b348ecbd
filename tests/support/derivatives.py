"""Gradients of the first and second order on every backend."""

import keras

from support.arrays import numpy


def derivatives(function, arrays, upstream):
    """Output, gradients, and gradients of the sum of their squares.

    Args:
        function: maps one tensor for each of `arrays` to an output.
        arrays: NumPy arrays.
        upstream: NumPy array, the gradient of the output.

    Returns:
        Three lists of NumPy arrays.
    """
    backend = keras.backend.backend()
    compute = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    found = compute[backend](function, arrays, upstream)
    return [[numpy(tensor) for tensor in tensors] for tensors in found]


def _tensorflow(function, arrays, upstream):
    import tensorflow as tf

    values = [tf.constant(x) for x in arrays]
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as inner:
            inner.watch(values)
            output = function(*values)
        first = inner.gradient(output, values, tf.constant(upstream))
        total = sum(tf.reduce_sum(x**2) for x in first)
    return [output], first, outer.gradient(total, values)


def _jax(function, arrays, upstream):
    import jax

    values = tuple(jax.numpy.asarray(x) for x in arrays)

    def gradients(values):
        output, pull_back = jax.vjp(lambda values: function(*values), values)
        return pull_back(jax.numpy.asarray(upstream))[0], output

    def total(values):
        first, output = gradients(values)
        return sum((x**2).sum() for x in first), (first, output)

    @jax.jit
    def compute(values):
        # The gradient alone as well: asking for a second one may change it.
        first, output = gradients(values)
        second, (again, _) = jax.grad(total, has_aux=True)(values)
        return output, first, again, second

    output, first, again, second = compute(values)
    for one, other in zip(first, again, strict=True):
        assert abs(one - other).max() < 1e-3
    return [output], first, second


def _torch(function, arrays, upstream):
    import torch

    values = [torch.tensor(x, requires_grad=True) for x in arrays]
    upstream = torch.tensor(upstream)
    output = function(*values)
    first = torch.autograd.grad(output, values, upstream, retain_graph=True)
    again = torch.autograd.grad(output, values, upstream, create_graph=True)
    for one, other in zip(first, again, strict=True):
        assert abs(one - other).max() < 1e-3
    second = torch.autograd.grad(sum((x**2).sum() for x in again), values)
    return [output.detach()], first, second
