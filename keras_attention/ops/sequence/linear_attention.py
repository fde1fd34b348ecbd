"""Linear attention and its relatives with decay: public functions."""

import math
from typing import Any

from keras import ops

from keras_attention.ops.attention.dot_product import matmul
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.linear_recurrence import CHUNK_SIZE
from keras_attention.ops.sequence.linear_recurrence import check_arguments
from keras_attention.ops.sequence.linear_recurrence import check_shape
from keras_attention.ops.sequence.linear_recurrence import gated_recurrence
from keras_attention.types import Tensor


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool = False,
    mask: Any = None,
    initial_state: Any = None,
    form: str = "chunked",
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Any, Any]:
    """Computes attention with the kernel φ(q) · φ(k) in place of a softmax.

        S ← S + φ(k) vᵀ,  z ← z + φ(k)
        y = Sᵀ φ(q) / (z · φ(q)),  φ(x) = elu(x) + 1

    Causal attention is this recurrence; without `causal`, every query reads
    the last state. Everything is computed in at least float32. A masked token
    is as if it were not there, and its output is zero.

    Args:
        query: Float tensor, `(B, T, N, D)`.
        key: Float tensor, `(B, T, N, D)`.
        value: Float tensor, `(B, T, N, E)`.
        causal: Boolean, whether a query attends to no later key. Defaults to
            `False`.
        mask: Boolean tensor `(B, T)`, `False` for masked tokens. Defaults to
            `None`.
        initial_state: What a call for the tokens before returned. Defaults to
            `None`, zeros.
        form: `"chunked"`, `"recurrent"` or `"parallel"`: token by token, in
            chunks, or all products at once. The result is the same. Defaults
            to `"chunked"`.
        chunk_size: Integer, tokens of a chunk, a power of two. Defaults to
            `64`.

    Returns:
        Output `(B, T, N, E)`; state `(B, N, D, E + 1)`, S with z as its last
        column.

    Raises:
        ValueError: For shapes that do not fit, or an unknown form.

    Reference:
        Katharopoulos et al., Transformers are RNNs, ICML 2020,
        arXiv:2006.16236, equations 16 to 20.

    Example:

    >>> x = np.random.normal(size=(2, 10, 3, 4)).astype("float32")
    >>> y, state = keras_attention.ops.linear_attention(x, x, x, causal=True)
    >>> tuple(y.shape), tuple(state.shape)
    ((2, 10, 3, 4), (2, 3, 4, 5))
    """
    query, key, value, mask = check_arguments(
        query, key, value, mask, initial_state, form, chunk_size, 1
    )
    dtype = query.dtype
    if mask is not None:
        # Before φ, which makes 1 of 0, and in the gradient of NaN.
        query, key, value = (
            replace_masked(x, mask) for x in (query, key, value)
        )
    query, key = (ops.elu(widen(x)) + 1 for x in (query, key))
    value = ops.cast(widen(value), key.dtype)
    value = ops.concatenate([value, ops.ones_like(value[..., :1])], axis=-1)
    if causal:
        log_decay = ops.zeros_like(key[..., :1])
        output, state = gated_recurrence(
            query,
            key,
            value,
            log_decay,
            mask,
            initial_state,
            form,
            chunk_size,
            constant=ops.zeros((key.shape[2],), key.dtype),
        )
    else:
        if mask is not None:
            query, key = (replace_masked(x, mask) for x in (query, key))
        query, key, value = (
            ops.swapaxes(x, 1, 2) for x in (query, key, value)
        )  # [B, N, T, X]
        state = matmul(ops.swapaxes(key, 2, 3), value)  # [B, N, D, E + 1]
        if initial_state is not None:
            state = state + ops.cast(initial_state, state.dtype)
        output = ops.swapaxes(matmul(query, state), 1, 2)
    total = output[..., -1:]
    # No token at all: 0 / 1.
    output = output[..., :-1] / ops.where(total > 0, total, 1)
    return ops.cast(output, dtype), state


def retention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    decay: Any = None,
    scale: float | None = None,
    mask: Any = None,
    initial_state: Any = None,
    form: str = "chunked",
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Any, Any]:
    """Computes retention: attention that decays with the distance.

        S ← γ S + k vᵀ,  y = Sᵀ q

    with a constant γ of each head. The rotation of queries and keys belongs
    to the layer, `Retention`. Everything is computed in at least float32. A
    masked token is as if it were not there, and its output is zero.

    Args:
        query: Float tensor, `(B, T, N, D)`.
        key: Float tensor, `(B, T, N, D)`.
        value: Float tensor, `(B, T, N, E)`.
        decay: Sequence of N floats in (0, 1], γ of each head. Defaults to
            `None`, 1 − 2^(−5 − h) for head h.
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
        Output `(B, T, N, E)`; state `(B, N, D, E)`.

    Raises:
        ValueError: For shapes that do not fit, a decay out of range, or an
            unknown form.

    Reference:
        Sun et al., Retentive Network: A Successor to Transformer for Large
        Language Models, 2023, arXiv:2307.08621, equations 5 to 8. The paper's
        normalization of the scores is left out: it has no effect before a
        group norm.

    Example:

    >>> x = np.random.normal(size=(2, 10, 3, 4)).astype("float32")
    >>> y, state = keras_attention.ops.retention(x, x, x)
    >>> tuple(y.shape), tuple(state.shape)
    ((2, 10, 3, 4), (2, 3, 4, 4))
    """
    query, key, value, mask = check_arguments(
        query, key, value, mask, initial_state, form, chunk_size
    )
    dtype, heads = query.dtype, query.shape[2]
    query = _scaled(query, scale)
    if decay is None:
        log_decay = [math.log1p(-(2.0 ** (-5 - h))) for h in range(heads)]
    else:
        decay = [float(each) for each in decay]
        if len(decay) != heads or not all(0 < each <= 1 for each in decay):
            raise ValueError(
                "`decay` must have a number above 0 and up to 1 for each of "
                f"the {heads} heads. Received: decay={decay}"
            )
        log_decay = [math.log(each) for each in decay]
    constant = ops.cast(log_decay, query.dtype)  # [N]
    log_decay = ops.zeros_like(query[..., :1]) + constant[:, None]
    output, state = gated_recurrence(
        query,
        key,
        value,
        log_decay,
        mask,
        initial_state,
        form,
        chunk_size,
        # Masked tokens do not decay.
        constant=constant if mask is None else None,
    )
    return ops.cast(output, dtype), state


def gated_linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    scale: float | None = None,
    mask: Any = None,
    initial_state: Any = None,
    form: str = "chunked",
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Any, Any]:
    """Computes linear attention whose state decays by learned gates.

        S ← diag(α) S + k vᵀ,  y = Sᵀ q

    with a gate α of each token and feature of the keys. The gates are given
    as logarithms, and only sums of them are exponentiated, which cannot
    overflow. Everything is computed in at least float32. A masked token is as
    if it were not there, and its output is zero.

    Args:
        query: Float tensor, `(B, T, N, D)`.
        key: Float tensor, `(B, T, N, D)`.
        value: Float tensor, `(B, T, N, E)`.
        log_decay: Float tensor, log α, `(B, T, N, D)`, at most 0.
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
        Output `(B, T, N, E)`; state `(B, N, D, E)`.

    Raises:
        ValueError: For shapes that do not fit, or an unknown form.

    Reference:
        Yang et al., Gated Linear Attention Transformers with
        Hardware-Efficient Training, ICML 2024, arXiv:2312.06635, equations 3
        and 4 and section 4.

    Example:

    >>> x = np.random.normal(size=(2, 10, 3, 4)).astype("float32")
    >>> y, state = keras_attention.ops.gated_linear_attention(
    ...     x, x, x, log_decay=-np.abs(x)
    ... )
    >>> tuple(y.shape), tuple(state.shape)
    ((2, 10, 3, 4), (2, 3, 4, 4))
    """
    query, key, value, mask = check_arguments(
        query, key, value, mask, initial_state, form, chunk_size
    )
    log_decay = ops.convert_to_tensor(log_decay)
    check_shape("log_decay", log_decay.shape, query.shape)
    dtype = query.dtype
    output, state = gated_recurrence(
        _scaled(query, scale),
        key,
        value,
        log_decay,
        mask,
        initial_state,
        form,
        chunk_size,
    )
    return ops.cast(output, dtype), state


def _scaled(query, scale):
    query = widen(query)
    return query * (query.shape[-1] ** -0.5 if scale is None else scale)
