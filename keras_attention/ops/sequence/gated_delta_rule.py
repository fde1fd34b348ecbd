"""The gated delta rule: a state that is corrected, not only added to."""

from typing import Any

from keras import ops

from keras_attention.ops.attention.dot_product import matmul
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.chunks import decay_after
from keras_attention.ops.sequence.chunks import decay_until
from keras_attention.ops.sequence.chunks import decayed_products
from keras_attention.ops.sequence.chunks import inverse_of_keys
from keras_attention.ops.sequence.linear_recurrence import CHUNK_SIZE
from keras_attention.ops.sequence.linear_recurrence import check_arguments
from keras_attention.ops.sequence.linear_recurrence import check_shape
from keras_attention.ops.sequence.linear_recurrence import run
from keras_attention.types import Tensor


def gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    scale: float | None = None,
    mask: Any = None,
    initial_state: Any = None,
    form: str = "chunked",
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Any, Any]:
    """Computes the recurrence of a gated delta network.

        S ← α (I − β k kᵀ) S + β k vᵀ,  y = Sᵀ q

    The state is a memory that maps keys to values: a token first takes out
    what is stored under its key, to the part β, and then stores its value;
    α decays the whole memory. Keys should have length 1. The decays are given
    as logarithms, and only sums of them are exponentiated, which cannot
    overflow. Everything is computed in at least float32. A masked token is as
    if it were not there, and its output is zero.

    Args:
        query: Float tensor, `(B, T, N, D)`.
        key: Float tensor, `(B, T, N, D)`.
        value: Float tensor, `(B, T, N, E)`.
        log_decay: Float tensor, log α, `(B, T, N)`, at most 0.
        beta: Float tensor, β, `(B, T, N)`, in [0, 1].
        scale: Float, factor of the queries. Defaults to `None`, 1/√D.
        mask: Boolean tensor `(B, T)`, `False` for masked tokens. Defaults to
            `None`.
        initial_state: What a call for the tokens before returned. Defaults to
            `None`, zeros.
        form: `"chunked"`, `"recurrent"` or `"parallel"`; see
            `linear_attention`. Defaults to `"chunked"`.
        chunk_size: Integer, tokens of a chunk, a power of two. Defaults to
            `64`.

    Returns:
        Output `(B, T, N, E)`; state `(B, N, D, E)`, the paper's transposed.

    Raises:
        ValueError: For shapes that do not fit, or an unknown form.

    Reference:
        Yang et al., Gated Delta Networks: Improving Mamba2 with Delta Rule,
        ICLR 2025, arXiv:2412.06464, equation 10 and section 3.3.

    Example:

    A value is read back by its key, and replaced by a second one:

    >>> key = np.zeros((1, 2, 1, 4), "float32")
    >>> key[..., 0] = 1
    >>> value = np.array([3.0, 5.0], "float32").reshape(1, 2, 1, 1)
    >>> none, all = np.zeros((1, 2, 1)), np.ones((1, 2, 1))
    >>> y, _ = keras_attention.ops.gated_delta_rule(
    ...     key, key, value, log_decay=none, beta=all, scale=1.0
    ... )
    >>> keras.ops.convert_to_numpy(y)[0, :, 0, 0]
    array([3., 5.], dtype=float32)
    """
    query, key, value, mask = check_arguments(
        query, key, value, mask, initial_state, form, chunk_size
    )
    dtype = query.dtype
    query = widen(query)
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    gates = []
    for name, x in (("log_decay", log_decay), ("beta", beta)):
        x = ops.convert_to_tensor(x)
        check_shape(name, x.shape, query.shape[:3])
        gates.append(ops.cast(x, query.dtype)[..., None])
    key, value = (ops.cast(x, query.dtype) for x in (key, value))
    output, state = run(
        _step,
        _chunk,
        (query, key, value, *gates),
        mask,
        initial_state,
        form,
        chunk_size,
    )
    return ops.cast(output, dtype), state


def _step(state, query, key, value, log_decay, beta):
    state = state * ops.exp(log_decay)[..., None]
    stored = ops.sum(key[..., None] * state, axis=-2)  # [B * N, E]
    new = beta * (value - stored)
    state = state + key[..., None] * new[..., None, :]
    return state, ops.sum(query[..., None] * state, axis=-2)


def _chunk(query, key, value, log_decay, beta):
    """What a chunk stores depends on the state before it: u = a − b S."""
    inverse = inverse_of_keys(key, log_decay, beta)  # [L, C, C]
    until = decay_until(log_decay)  # [L, C, 1]
    constant = matmul(inverse, beta * value)  # [L, C, E]
    linear = matmul(inverse, beta * until * key)  # [L, C, D]
    kept = ops.swapaxes(key * decay_after(log_decay), 1, 2)  # [L, D, C]
    total = ops.exp(ops.sum(log_decay, axis=1))[..., None]  # [L, 1, 1]

    def next_state(state, total, kept, constant, linear):
        new = constant - matmul(linear, state)
        return state * total + matmul(kept, new), state

    def output(states):
        new = constant - matmul(linear, states)
        scores = decayed_products(query, key, log_decay)
        return matmul(scores, new) + matmul(query * until, states)

    return next_state, (total, kept, constant, linear), output
