"""Recurrences of a matrix state, one for each head, in three forms.

`B` batch, `T` tokens, `N` heads, `D` width of queries and keys, `E` width of
values. The state S, `(B, N, D, E)`, is in at least float32, and so is all that
is computed.

- `"recurrent"`: token by token.
- `"chunked"`: products inside chunks of tokens, and the states between chunks
  one after the other: linear in T.
- `"parallel"`: all products at once, quadratic in T.

The three give one result. A masked token is as if it were not there: it
neither changes nor decays the state, and its output is zero.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_attention.ops.attention.dot_product import matmul
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.precision import to_float
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.chunks import decay_after
from keras_attention.ops.sequence.chunks import decay_until
from keras_attention.ops.sequence.chunks import decayed_products
from keras_attention.ops.sequence.chunks import join_chunks
from keras_attention.ops.sequence.chunks import power_of_two
from keras_attention.ops.sequence.chunks import split_chunks
from keras_attention.ops.sequence.scan import scan
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

FORMS = ("recurrent", "chunked", "parallel")
CHUNK_SIZE = 64


def gated_recurrence(
    query: Any,
    key: Any,
    value: Any,
    log_decay: Any,
    mask: Any,
    initial_state: Any,
    form: str,
    chunk_size: int,
    constant: Any = None,
) -> tuple[Any, Any]:
    """S ← exp(log_decay) S + k vᵀ; y = Sᵀ q.

    Args:
        query: Tensor `(B, T, N, D)`, scaled.
        key: Tensor `(B, T, N, D)`.
        value: Tensor `(B, T, N, E)`.
        log_decay: Tensor `(B, T, N, D)` or `(B, T, N, 1)`, at most 0.
        mask: Boolean tensor `(B, T)` or `None`.
        initial_state: Tensor `(B, N, D, E)` or `None`.
        form: One of `FORMS`.
        chunk_size: Integer, tokens of a chunk.
        constant: Tensor `(N,)`, the `log_decay` of each head if it is that of
            all tokens, which saves time. Defaults to `None`.

    Returns:
        Output `(B, T, N, E)` and last state.
    """

    def step(state, query, key, value, log_decay):
        state = state * ops.exp(log_decay)[..., None]
        state = state + key[..., None] * value[..., None, :]
        return state, ops.sum(query[..., None] * state, axis=-2)

    def chunk(query, key, value, log_decay):
        scores = decayed_products(query, key, log_decay, constant)  # [L, C, C]
        inside = matmul(scores, value)
        key = ops.swapaxes(key * decay_after(log_decay), 1, 2)
        total = ops.exp(ops.sum(log_decay, axis=1))[..., None]  # [L, A, 1]
        added = matmul(key, value)  # [L, D, E]

        def next_state(state, total, added):
            return state * total + added, state

        def output(states):
            decayed = query * decay_until(log_decay)
            return inside + matmul(decayed, states)

        return next_state, (total, added), output

    return run(
        step,
        chunk,
        (query, key, value, log_decay),
        mask,
        initial_state,
        form,
        chunk_size,
    )


def run(
    step: Callable[..., Any],
    chunk: Callable[..., Any],
    sequences: tuple[Any, ...],
    mask: Any,
    initial_state: Any,
    form: str,
    chunk_size: int,
) -> tuple[Any, Any]:
    """Run a recurrence in one of its forms.

    Zeros in every sequence must leave the state as it is.

    Args:
        step: Next state and output of state and one token, for all rows and
            heads: `step(state, *tokens)`.
        chunk: Of the sequences in chunks, `(L, C, X)` each: a function of
            state and tensors that returns the next state and the one before;
            these tensors, `(L, ...)`; and a function of the states before the
            chunks, `(L, D, E)`, that returns the output, `(L, C, E)`.
        sequences: Tensors `(B, T, N, X)`: query, key, value and what the
            recurrence needs further.
        mask: Boolean tensor `(B, T)` or `None`.
        initial_state: Tensor `(B, N, D, E)` or `None`.
        form: One of `FORMS`.
        chunk_size: Integer, tokens of a chunk.

    Returns:
        Output `(B, T, N, E)`, in the dtype of the first sequence, and state.
    """
    dtype = sequences[0].dtype
    sequences = tuple(map(widen, sequences))
    if mask is not None:
        sequences = tuple(replace_masked(x, mask) for x in sequences)
    query, key, value = sequences[:3]
    batch, length, heads = ops.shape(query)[:3]
    width, value_width = key.shape[3], value.shape[3]
    if initial_state is None:
        initial_state = ops.zeros(
            (batch * heads, width, value_width), query.dtype
        )
    else:
        initial_state = ops.reshape(
            ops.cast(initial_state, query.dtype), (-1, width, value_width)
        )
    size = _chunk_size(form, chunk_size, query.shape[1])
    if isinstance(length, int):
        count = max(-(-length // size), 1)
    else:
        # Not `-(-length // size)`: converters to ONNX divide towards zero.
        count = ops.maximum((length + size - 1) // size, 1)
    chunks = [split_chunks(x, size, count) for x in sequences]
    # [count, B * N, size, X]
    if form == "recurrent":
        state, output = scan(
            step, initial_state, tuple(x[:, :, 0] for x in chunks)
        )
        output = output[:, :, None]
    else:
        flat = [ops.reshape(x, (-1, size, x.shape[-1])) for x in chunks]
        next_state, tensors, outputs = chunk(*flat)
        tensors = tuple(
            ops.reshape(x, (count, batch * heads, *x.shape[1:]))
            for x in tensors
        )
        state, states = scan(next_state, initial_state, tensors)
        output = outputs(ops.reshape(states, (-1, width, value_width)))
        output = ops.reshape(output, (count, batch * heads, size, value_width))
    output = join_chunks(output, batch, heads, length)
    state = ops.reshape(state, (batch, heads, width, value_width))
    return ops.cast(output, dtype), state


def check_arguments(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    initial_state: Any,
    form: str,
    chunk_size: int,
    extra_width: int = 0,
) -> tuple[Any, Any, Any, Any]:
    """Check what the public functions share; return the tensors and mask.

    Raises:
        ValueError: For shapes that do not fit, or an unknown form.
    """
    check_choice("form", form, FORMS)
    check_positive_integer("chunk_size", chunk_size)
    if chunk_size != power_of_two(chunk_size):
        raise ValueError(
            "`chunk_size` must be a power of two. Received: "
            f"chunk_size={chunk_size}"
        )
    tensors = [ops.convert_to_tensor(x) for x in (query, key, value)]
    tensors = [to_float(x) for x in tensors]
    shapes = [tuple(x.shape) for x in tensors]
    check_shape("key", shapes[1], shapes[0])
    check_shape("value", shapes[2], (*shapes[0][:3], None))
    if mask is not None:
        mask = to_boolean_mask("mask", mask)
        check_sequence_mask("mask", mask, shapes[0])
    if initial_state is not None:
        batch, _, heads, width = shapes[0]
        expected = (batch, heads, width, shapes[2][3] + extra_width)
        check_shape("initial_state", initial_state.shape, expected)
    return (*tensors, mask)


def check_shape(name: str, shape: Any, expected: Any) -> None:
    """Raise a `ValueError` unless a shape is the expected one.

    Sizes that are `None`, on either side, fit.
    """
    shape = tuple(shape)
    fits = len(shape) == len(expected) == 4 or len(shape) == len(expected) == 3
    if not fits or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(shape, expected, strict=True)
    ):
        raise ValueError(
            f"`{name}` must have the shape {tuple(expected)}: sequences are "
            "(batch, time, heads, width), states (batch, heads, key width, "
            f"value width). Received: {name} of shape {shape}"
        )


def _chunk_size(form, chunk_size, length):
    if form == "recurrent":
        return 1
    if form == "chunked" and length is None:
        return chunk_size
    if length is None:
        raise ValueError(
            'form="parallel" needs a length that is known when the function '
            "is traced. Received: a sequence of unknown length. Use "
            'form="chunked".'
        )
    whole = power_of_two(length)
    return whole if form == "parallel" else min(chunk_size, whole)
