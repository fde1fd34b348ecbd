"""What the chunked forms of linear recurrences share.

`L` chunks of all rows and heads, `C` tokens of a chunk, a power of two, `D`
width of queries and keys, `A` width of the decays: D, or 1 for one decay for
all features.

Decays are logarithms, at most 0. Only sums of them over a run of tokens are
exponentiated, each summed for itself and never a difference of two larger
sums: no exponential can exceed 1, and a decay to nothing, `-inf`, is no NaN.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.dot_product import matmul
from keras_attention.types import Tensor

# Tokens of the blocks whose products are taken pair by pair, feature by
# feature, where each feature has its own decay.
BLOCK = 4


def power_of_two(length: int) -> int:
    """Return the smallest power of two that is at least `length`."""
    return 1 << max(length - 1, 0).bit_length()


def split_chunks(x: Tensor, size: int, count: Any) -> Any:
    """`(B, T, N, X)` to `(count, B * N, size, X)`, zeros at the end."""
    batch, length, heads, width = ops.shape(x)
    x = ops.pad(x, ((0, 0), (0, count * size - length), (0, 0), (0, 0)))
    x = ops.reshape(x, (batch, count, size, heads, width))
    x = ops.transpose(x, (1, 0, 3, 2, 4))  # [count, B, N, size, X]
    return ops.reshape(x, (count, batch * heads, size, width))


def join_chunks(x: Tensor, batch: Any, heads: int, length: Any) -> Any:
    """`(count, B * N, size, X)` to `(B, T, N, X)`: undo `split_chunks`."""
    count, _, size, width = ops.shape(x)
    x = ops.reshape(x, (count, batch, heads, size, width))
    x = ops.transpose(x, (1, 0, 3, 2, 4))
    x = ops.reshape(x, (batch, count * size, heads, width))
    return x[:, :length]


def decay_until(log_decay: Tensor) -> Any:
    """Decay from the start of a chunk to each token, its own included."""
    return ops.exp(_cumulative_sum(log_decay, -2))


def decay_after(log_decay: Tensor) -> Any:
    """Decay from each token, its own left out, to the end of a chunk."""
    later = ops.flip(_cumulative_sum(ops.flip(log_decay, -2), -2), -2)
    widths = [(0, 0)] * len(log_decay.shape)
    widths[-2] = (0, 1)
    return ops.exp(ops.pad(later, widths)[..., 1:, :])


def decayed_products(
    query: Tensor, key: Tensor, log_decay: Tensor, constant: Any = None
) -> Any:
    """Products of each query with its own key and earlier ones, decayed.

    Args:
        query: Tensor `(L, C, D)`.
        key: Tensor `(L, C, D)`.
        log_decay: Tensor `(L, C, A)`.
        constant: Log decays of heads, `(N,)`, that all tokens have in common;
            L is then `(..., N)` in a row. Defaults to `None`, other decays.

    Returns:
        Tensor `(L, C, C)`: of i and j ≤ i the sum over features of query i,
        key j and the decays after j up to i; zeros for j > i.
    """
    size = query.shape[1]
    if constant is not None:
        products = matmul(query, ops.swapaxes(key, 1, 2))
        heads = ops.shape(constant)[0]
        each = ops.broadcast_to(constant[:, None, None], (heads, size, 1))
        # Of one chunk: those of all would be as large as the products.
        products = ops.reshape(products, (-1, heads, size, size))
        products = products * pairwise_decay(each)
        return ops.reshape(products, (-1, size, size))
    if log_decay.shape[-1] == 1:
        products = matmul(query, ops.swapaxes(key, 1, 2))
        return products * pairwise_decay(log_decay)
    block = min(BLOCK, size)
    # The blocks on the diagonal, then pairs of blocks, each with the products
    # of its second half with its first, until one block is left.
    query_blocks, key_blocks, decay_blocks = (
        _split(x, block) for x in (query, key, log_decay)
    )
    products = ops.sum(
        query_blocks[..., :, None, :]
        * key_blocks[..., None, :, :]
        * _pairwise_decay(decay_blocks),
        axis=-1,
    )  # [L, C / block, block, block]
    for half, below in _halves(query, key, log_decay, block):
        products = _merge(products, half, below)
    return products[:, 0]


def inverse_of_keys(key: Tensor, log_decay: Tensor, beta: Tensor) -> Any:
    """Inverse of the matrix that the delta rule solves in a chunk.

    That is the identity plus, for j < i, beta i times the decayed product of
    keys i and j. It is inverted by blocks of twice the size at a time: sums
    of no more terms than in a substitution, and no powers of the matrix.

    Args:
        key: Tensor `(L, C, D)`.
        log_decay: Tensor `(L, C, 1)`.
        beta: Tensor `(L, C, 1)`.

    Returns:
        Tensor `(L, C, C)`, lower triangular.
    """
    inverse = ops.ones_like(key[..., None, :1])  # [L, C, 1, 1]
    for half, below in _halves(key * beta, key, log_decay, 1):
        first, second = _pairs(inverse)
        below = -matmul(matmul(second, below), first)
        inverse = _merge(inverse, half, below)
    return inverse[:, 0]


def _halves(query, key, log_decay, block):
    """Half the size of blocks, and products of second with first half.

    From the smallest blocks to the one of the whole chunk; the products are
    `(L, C / (2 half), half, half)`.
    """
    halves, half = [], block
    while half < query.shape[1]:
        _, later_query = _pairs(_split(query, half))
        earlier_key, _ = _pairs(_split(key, half))
        earlier_decay, later_decay = _pairs(_split(log_decay, half))
        later_query = later_query * decay_until(later_decay)
        earlier_key = earlier_key * decay_after(earlier_decay)
        products = matmul(later_query, ops.swapaxes(earlier_key, -1, -2))
        halves.append((half, products))
        half *= 2
    return halves


def _split(x, size):
    """`(L, C, X)` to `(L, C / size, size, X)`."""
    count, width = x.shape[1] // size, x.shape[2]
    return ops.reshape(x, (-1, count, size, width))


def _pairs(x):
    """First and second of each pair of blocks along axis 1."""
    count, rows, columns = x.shape[1:]
    x = ops.reshape(x, (-1, count // 2, 2, rows, columns))
    return x[:, :, 0], x[:, :, 1]


def _merge(diagonal, half, below):
    """Blocks of twice the size, zero above: `(L, M, half, half)` to half M."""
    first, second = _pairs(diagonal)
    top = ops.pad(first, ((0, 0), (0, 0), (0, 0), (0, half)))
    return ops.concatenate(
        [top, ops.concatenate([below, second], axis=-1)], axis=-2
    )


def pairwise_decay(log_decay: Tensor) -> Any:
    """Decay after j up to i, of one decay a token: `(L, C, 1)` to `(L, C, C)`.

    One for i = j and zero for j > i. Of blocks of twice the size at a time: a
    sum for each pair of a chunk takes longer than all its products.
    """
    half = min(BLOCK, log_decay.shape[1])
    decay = _pairwise_decay(_split(log_decay, half))[..., 0]
    while half < log_decay.shape[1]:
        earlier, later = _pairs(_split(log_decay, half))
        after = ops.swapaxes(decay_after(earlier), -1, -2)
        decay = _merge(decay, half, decay_until(later) * after)
        half *= 2
    return decay[:, 0]


def _pairwise_decay(log_decay):
    """Decay after j up to i: `(..., C, A)` to `(..., C, C, A)`.

    One for i = j and zero for j > i.
    """
    size = log_decay.shape[-2]
    places = ops.arange(size, dtype="int32")
    is_later = places[:, None] > places  # [i, j]
    counted = ops.where(
        is_later[..., None], ops.expand_dims(log_decay, -2), 0
    )  # row l, column j
    sums = _cumulative_sum(counted, -3)
    is_earlier = places[:, None] >= places
    return ops.where(is_earlier[..., None], ops.exp(sums), 0)


def _cumulative_sum(x, axis):
    """Keras' own narrows float64 to float32 on torch."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cumsum(x, dim=axis)
    return ops.cumsum(x, axis=axis)
