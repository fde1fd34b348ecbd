"""Runs a function chunk by chunk, so that only one chunk's work is in memory.

What a function computes between its inputs and its output is not kept for the
gradient but computed again, a chunk at a time. A gradient that is made this
way is itself a function that runs chunk by chunk, and can be differentiated
again. TensorFlow's graphs get a `while_loop` of TensorFlow's own operations.
"""

from collections.abc import Callable
from typing import Any

import keras


def map_chunks(
    function: Callable[..., Any],
    rows: dict[str, Any],
    shared: dict[str, Any],
    count: Any,
    groups: int = 1,
) -> Any:
    """Stack `function(group, index, rows, shared)` over the chunks.

    Args:
        function: returns one tensor for one chunk. It is given the number of
            the chunk, each tensor of `rows` at that index, and `shared`.
            `group` is a Python integer below `groups` that grows with the
            index (where the backend has no branches, always the last one):
            it may decide about sizes.
        rows: float tensors whose first axis is the chunks'.
        shared: float tensors that every chunk gets whole.
        count: number of chunks; an integer or a scalar tensor.
        groups: number of groups into which the chunks are split evenly.

    Returns:
        Tensor whose first axis is the chunks'. It can be differentiated to
        `rows` and `shared`, as often as wanted.
    """

    def listed(group, index, row_values, shared_values):
        return function(
            group,
            index,
            dict(zip(rows, row_values, strict=True)),
            dict(zip(shared, shared_values, strict=True)),
        )

    run = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[
        keras.backend.backend()
    ]
    return run(
        listed, list(rows.values()), list(shared.values()), count, groups
    )


def last_chunk(group: int, count: Any, groups: int) -> Any:
    """Number of the last chunk in a group."""
    return -(-(group + 1) * count // groups) - 1


def _tensorflow(function, rows, shared, count, groups):
    def forward(*arguments):
        return [function(*arguments)], []

    return _tensorflow_map(forward, rows, shared, 1, [], count, groups)[0][0]


def _tensorflow_map(function, rows, shared, num_stacked, totals, count, groups):
    """Stack the first outputs of `function`, add up the second ones.

    There are `num_stacked` first outputs; the second ones have the shapes of
    `totals`. The gradient of the whole is again such a map: a row's gradient
    is a row, and the gradients of what is shared add up.
    """
    import tensorflow as tf

    num_rows, num_shared = len(rows), len(shared)

    @tf.custom_gradient
    def run(*tensors):
        rows, shared = list(tensors[:num_rows]), list(tensors[num_rows:])
        stacked, added = _tensorflow_loop(
            function, rows, shared, num_stacked, totals, count, groups
        )

        def gradient(*upstream):
            row_gradients, shared_gradients = _tensorflow_map(
                vector_jacobian_product,
                rows + list(upstream[:num_stacked]),
                shared + list(upstream[num_stacked:]),
                num_rows,
                shared,
                count,
                groups,
            )
            return [*row_gradients, *shared_gradients]

        return [*stacked, *added], gradient

    def vector_jacobian_product(group, index, rows, shared):
        inputs = [*rows[:num_rows], *shared[:num_shared]]
        upstream = [*rows[num_rows:], *shared[num_shared:]]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            stacked, added = function(
                group, index, rows[:num_rows], shared[:num_shared]
            )
        gradients = tape.gradient(
            [*stacked, *added],
            inputs,
            output_gradients=upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return gradients[:num_rows], gradients[num_rows:]

    outputs = run(*rows, *shared)
    return outputs[:num_stacked], outputs[num_stacked:]


def _tensorflow_loop(
    function, rows, shared, num_stacked, totals, count, groups
):
    import tensorflow as tf

    # Outside tapes must not record, and so keep, what the loop computes.
    rows = [tf.stop_gradient(tensor) for tensor in rows]
    shared = [tf.stop_gradient(tensor) for tensor in shared]

    def chunk(index):
        taken = [tensor[index] for tensor in rows]
        if groups == 1:
            return function(0, index, taken, shared)
        return tf.switch_case(
            index * groups // count,
            [
                lambda group=group: function(group, index, taken, shared)
                for group in range(groups)
            ],
        )

    def body(index, arrays, sums):
        stacked, added = chunk(index)
        return (
            index + 1,
            [a.write(index, x) for a, x in zip(arrays, stacked, strict=True)],
            [s + x for s, x in zip(sums, added, strict=True)],
        )

    arrays = [tf.TensorArray(rows[0].dtype, count) for _ in range(num_stacked)]
    sums = [tf.zeros_like(total) for total in totals]
    _, arrays, sums = tf.while_loop(
        lambda index, *_: index < count,
        body,
        (tf.constant(0), arrays, sums),
        parallel_iterations=1,
    )
    return [array.stack() for array in arrays], sums


def _jax(function, rows, shared, count, groups):
    import jax

    @jax.checkpoint
    def chunk(indexed):
        index, taken = indexed
        return function(groups - 1, index, taken, shared)

    return jax.lax.map(chunk, (jax.numpy.arange(count), rows))


def _torch(function, rows, shared, count, groups):
    import torch
    from torch.utils.checkpoint import checkpoint

    return torch.stack(
        [
            checkpoint(
                function,
                index * groups // count,
                index,
                [tensor[index] for tensor in rows],
                shared,
                use_reentrant=False,
            )
            for index in range(count)
        ]
    )
