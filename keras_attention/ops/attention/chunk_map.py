"""Runs a function chunk by chunk, so that only one chunk's work is in memory.

What a function computes between its inputs and its output is not kept for the
gradient but computed again, a chunk at a time. A gradient that is made this
way is itself a function that runs chunk by chunk, and can be differentiated
again. TensorFlow's graphs get a `while_loop` of TensorFlow's own operations.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras


def map_chunks(
    function: Callable[..., Any],
    rows: dict[str, Any],
    shared: dict[str, Any],
    count: Any,
    blocks: int = 1,
    groups: int = 1,
    cut: Callable[..., dict[str, Any]] = lambda group, shared: shared,
) -> Any:
    """Stack `function(group, block, index, rows, shared)` over all chunks.

    There are `blocks` blocks of `count` chunks each. The chunks of a block
    share tensors; those of all blocks together have rows of their own.

    Args:
        function: returns one tensor for one chunk. It is given the numbers of
            the block and of the chunk in it, the chunk's `rows` and what
            `cut` leaves of the block's `shared`. `group` is a Python integer
            below `groups` that grows with the index: it may decide about
            sizes.
        rows: float tensors with a first axis of size `blocks * count`.
        shared: float tensors with a first axis of size `blocks`.
        count: number of chunks in a block; an integer or a scalar tensor.
        blocks: number of blocks.
        groups: number of groups into which a block's chunks are split evenly.
        cut: returns the part of a block's `shared` that the chunks of a group
            need. Defaults to all.

    Returns:
        Tensor with a first axis of size `blocks * count`. It can be
        differentiated to `rows` and `shared`, as often as wanted.
    """

    def listed(group, block, index, row_values, shared_values):
        return function(
            group,
            block,
            index,
            dict(zip(rows, row_values, strict=True)),
            dict(zip(shared, shared_values, strict=True)),
        )

    def listed_cut(group, shared_values):
        of_block = dict(zip(shared, shared_values, strict=True))
        return list(cut(group, of_block).values())

    run = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[
        keras.backend.backend()
    ]
    sizes = (count, blocks, groups)
    tensors = list(rows.values()), list(shared.values())
    return run(listed, listed_cut, *tensors, sizes)


def last_chunk(group: int, count: Any, groups: int) -> Any:
    """Number of the last chunk in a group."""
    return -(-(group + 1) * count // groups) - 1


def _tensorflow(function, cut, rows, shared, sizes):
    def forward(group, block, index, rows, shared):
        return [function(group, block, index, rows, cut(group, shared))], []

    return _tensorflow_map(forward, rows, shared, 1, [], sizes)[0][0]


def _tensorflow_map(function, rows, shared, num_stacked, totals, sizes):
    """Stack the first outputs of `function`, add up the second ones.

    There are `num_stacked` first outputs; the second ones are added up within
    a block, and have the shapes of `totals`. The gradient of the whole is
    again such a map: a row's gradient is a row, and the gradients of what is
    shared add up.
    """
    import tensorflow as tf

    num_rows, num_shared = len(rows), len(shared)

    @tf.custom_gradient
    def run(*tensors):
        rows, shared = list(tensors[:num_rows]), list(tensors[num_rows:])
        stacked, added = _tensorflow_loop(
            function, rows, shared, num_stacked, totals, sizes
        )

        def gradient(*upstream):
            row_gradients, shared_gradients = _tensorflow_map(
                vector_jacobian_product,
                rows + list(upstream[:num_stacked]),
                shared + list(upstream[num_stacked:]),
                num_rows,
                shared,
                sizes,
            )
            return [*row_gradients, *shared_gradients]

        return [*stacked, *added], gradient

    def vector_jacobian_product(group, block, index, rows, shared):
        inputs = [*rows[:num_rows], *shared[:num_shared]]
        upstream = [*rows[num_rows:], *shared[num_shared:]]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            stacked, added = function(
                group, block, index, rows[:num_rows], shared[:num_shared]
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


def _tensorflow_loop(function, rows, shared, num_stacked, totals, sizes):
    import tensorflow as tf

    count, blocks, groups = sizes
    # Outside tapes must not record, and so keep, what the loop computes.
    rows = [tf.stop_gradient(tensor) for tensor in rows]
    shared = [tf.stop_gradient(tensor) for tensor in shared]

    def run_chunk(block, index, of_block):
        taken = [tensor[block * count + index] for tensor in rows]
        arguments = (block, index, taken, of_block)
        if groups == 1:
            return function(0, *arguments)
        return tf.switch_case(
            index * groups // count,
            [
                functools.partial(function, group, *arguments)
                for group in range(groups)
            ],
        )

    def run_block(block, arrays, finished):
        of_block = [tensor[block] for tensor in shared]

        def body(index, arrays, sums):
            stacked, added = run_chunk(block, index, of_block)
            number = block * count + index
            arrays = [
                array.write(number, x)
                for array, x in zip(arrays, stacked, strict=True)
            ]
            sums = [
                tf.ensure_shape(total + x, total.shape)
                for total, x in zip(sums, added, strict=True)
            ]
            return index + 1, arrays, sums

        # A sum of one block is small, and added to in its place.
        sums = [tf.zeros_like(total[0]) for total in totals]
        _, arrays, sums = _count_to(count, body, arrays, sums)
        finished = [
            array.write(block, total)
            for array, total in zip(finished, sums, strict=True)
        ]
        return block + 1, arrays, finished

    def new_arrays(tensors, size):
        return [tf.TensorArray(tensor.dtype, size) for tensor in tensors]

    arrays = new_arrays([rows[0]] * num_stacked, blocks * count)
    _, arrays, finished = _count_to(
        blocks, run_block, arrays, new_arrays(totals, blocks)
    )
    return [[array.stack() for array in each] for each in (arrays, finished)]


def _count_to(end, body, *variables):
    import tensorflow as tf

    return tf.while_loop(
        lambda number, *_: number < end,
        body,
        (tf.constant(0), *variables),
        parallel_iterations=1,
    )


def _jax(function, cut, rows, shared, sizes):
    import jax

    count, blocks, groups = sizes

    def run_group(block, group):
        # Cut outside of the loop: inside, the gradient of every chunk would
        # be filled up to the whole of what is shared.
        of_group = cut(group, [tensor[block] for tensor in shared])

        @jax.checkpoint
        def chunk(numbered):
            index, taken = numbered
            return function(group, block, index, taken, of_group)

        start = last_chunk(group - 1, count, groups) + 1
        stop = last_chunk(group, count, groups) + 1
        of_chunks = slice(block * count + start, block * count + stop)
        indices = jax.numpy.arange(start, stop)
        return jax.lax.map(chunk, (indices, [x[of_chunks] for x in rows]))

    return jax.numpy.concatenate(
        [
            run_group(block, group)
            for block in range(blocks)
            for group in range(groups)
        ]
    )


def _torch(function, cut, rows, shared, sizes):
    import torch
    from torch.utils.checkpoint import checkpoint

    count, blocks, groups = sizes

    def run_chunk(group, block, index, taken, of_block):
        return function(group, block, index, taken, cut(group, of_block))

    outputs = []
    for number in range(blocks * count):
        block, index = divmod(number, count)
        outputs.append(
            checkpoint(
                run_chunk,
                index * groups // count,
                block,
                index,
                [tensor[number] for tensor in rows],
                [tensor[block] for tensor in shared],
                use_reentrant=False,
            )
        )
    return torch.stack(outputs)
