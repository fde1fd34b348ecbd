"""A loop over the first axis that carries a state.

Keras' own `scan` cannot return, on TensorFlow, outputs of another shape than
the state, nor be differentiated under XLA.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_attention.validation import check_backend


def scan(
    step: Callable[..., Any], state: Any, sequences: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Run `step(state, *slices)` over the first axis of the sequences.

    Args:
        step: Returns the next state, of the state's shape, and an output.
        state: Tensor, the state at the start.
        sequences: Tensors with one first axis of at least one.

    Returns:
        The last state, and the outputs stacked along a first axis.
    """
    loops = {"tensorflow": _tensorflow, "jax": _jax}
    run = loops.get(keras.backend.backend(), _unrolled)
    return run(step, state, sequences)


def _tensorflow(step, state, sequences):
    import tensorflow as tf

    if sequences[0].shape[0] == 1:
        state, output = step(state, *(x[0] for x in sequences))
        return state, output[None]
    count = sequences[0].shape[0] or tf.shape(sequences[0])[0]
    arrays = [
        tf.TensorArray(x.dtype, count, element_shape=x.shape[1:]).unstack(x)
        for x in sequences
    ]

    def body(index, before, outputs):
        after, output = step(before, *(array.read(index) for array in arrays))
        after = tf.ensure_shape(after, before.shape)
        return index + 1, after, outputs.write(index, output)

    outputs = tf.TensorArray(state.dtype, count)
    _, state, outputs = tf.while_loop(
        lambda index, *_: index < count,
        body,
        (tf.constant(0), state, outputs),
        maximum_iterations=count,
        parallel_iterations=1,
    )
    return state, outputs.stack()


def _jax(step, state, sequences):
    import jax

    return jax.lax.scan(lambda state, x: step(state, *x), state, sequences)


def _unrolled(step, state, sequences):
    if sequences[0].shape[0] is None:
        check_backend("A loop over a sequence of unknown length")
    outputs = []
    for index in range(sequences[0].shape[0]):
        state, output = step(state, *(x[index] for x in sequences))
        outputs.append(output)
    return state, ops.stack(outputs)
