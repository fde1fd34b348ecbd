"""Exact attention in memory that grows with the length, not with its square.

The queries are split into chunks. Each chunk is attended to its keys by the
same code as the plain way, and the scores are computed again for the gradient
(Rabe & Staats, arXiv:2112.05682).

Three choices of keys. All of them, for every chunk. For causal attention only
those up to the end of the chunk, rounded up to an eighth of the length, which
saves nearly half of the work. For a window only the pieces that it reaches,
which makes the work linear in the length.

`n` chunks of `C` queries; other letters as in `dot_product.py`. Where heads
are looped over too, `H` is their number, else 1.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.chunk_map import last_chunk
from keras_attention.ops.attention.chunk_map import map_chunks
from keras_attention.ops.attention.dot_product import attend
from keras_attention.ops.attention.dot_product import draw_kept
from keras_attention.ops.attention.dot_product import to_distances
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.compilation import inside_xla

# Scores of one head of keys in a chunk, 8 MiB: smaller chunks' products take
# longer, and larger ones are no longer small beside the queries and keys.
SCORES_PER_CHUNK = 2**21
QUERIES_PER_CHUNK = 256, 1024
CAUSAL_GROUPS = 8


def chunked_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    bias: Any,
    distance_bias: Any,
    causal: bool,
    window: int | None,
    logit_soft_cap: float | None,
    dropout: float,
    seed: Any,
) -> Any:
    """Output `(B, N, T, E)`; arguments as in `attend`."""
    num_queries, num_keys = ops.shape(query)[2], ops.shape(key)[3]
    shift = num_keys - num_queries
    band = window is not None and bias is None and _is_by_key(mask)
    least, most = QUERIES_PER_CHUNK
    if band:
        chunk = min(least, max(window, 16))
        count = _ceil_divide(num_queries, chunk)
        behind = _ceil_divide(window - 1, chunk)
        pieces = behind + 1 + (0 if causal else behind)
        first, num_taken = shift - behind * chunk, pieces * chunk
    else:
        # Heads that share their keys are the rows of one product.
        group = query.shape[1] // key.shape[1]
        rows_of_chunk = least
        if isinstance(num_keys, int):
            fitting = SCORES_PER_CHUNK // num_keys
            rows_of_chunk = min(max(fitting, least), most)
        count = _ceil_divide(num_queries, max(1, rows_of_chunk // group))
        chunk = _ceil_divide(num_queries, count)
        first, num_taken = 0, num_keys
    groups = 1
    if causal and not band:
        few = isinstance(count, int) and count < CAUSAL_GROUPS
        groups = count if few else CAUSAL_GROUPS
    blocks = key.shape[1] if _loops_over_heads(bias) else 1

    # In TensorFlow's graph only those keys are masked that some query of the
    # group does not see.
    nothing_else = (mask, bias, distance_bias, window, logit_soft_cap)
    splits = (
        causal
        and all(option is None for option in nothing_else)
        and keras.backend.backend() == "tensorflow"
        and not inside_xla()
    )

    def by_query(x):  # [H * n, B, N / H, C, .]
        return _split(x, 2, count, chunk, blocks)

    def by_reach(x, axis):  # [H * n, B, N / H, .. pieces * C ..]
        x = _cut(x, axis, first, (count + pieces - 1) * chunk)
        return _overlap(x, axis, count, chunk, pieces, blocks)

    def by_head(x):  # [H, B, N / H, ., .]
        return _split(x, 3, 1, ops.shape(x)[3], blocks)

    rows, shared = {"query": by_query(query)}, {}
    by_chunk = band or not _is_by_key(mask)
    differs_by_head = mask is not None and mask.shape[1] != 1
    if band:
        rows |= {"key": by_reach(key, 3), "value": by_reach(value, 2)}
        # What lies before the first key and after the last is seen by nobody.
        exists = ops.ones((1, 1, 1, num_keys), "bool")
        mask = by_reach(combine_masks(exists, mask), 3)
    else:
        shared |= {"key": by_head(key), "value": by_head(value)}
        if bias is not None and _is_by_key(bias):
            shared["bias"] = by_head(bias)
        elif bias is not None:
            rows["bias"] = by_query(bias)
        if mask is not None:
            mask = by_query(mask) if by_chunk else by_head(mask)
    if distance_bias is not None:
        lead = num_queries - chunk + first
        moves = ops.arange(count, dtype="int32") * (0 if band else -chunk)
        rows["distance_bias"] = _stretches(
            distance_bias, lead + moves, chunk + num_taken - 1, blocks
        )

    def mask_of(block, index):
        if mask is None:
            return None
        block = block if differs_by_head else 0
        return mask[block * count + index if by_chunk else block]

    def attend_chunk(group, block, index, rows, shared):
        source = rows if band else shared
        key, value = source["key"], source["value"]
        keys, clear = num_taken, 0
        if groups > 1:
            end = (last_chunk(group, count, groups) + 1) * chunk + shift
            keys = _smaller(_larger(end, 1), num_keys)
            key, value = key[..., :keys], value[:, :, :keys]
        if splits:
            seen = (last_chunk(group - 1, count, groups) + 1) * chunk + shift
            clear = seen if isinstance(seen, int) and 0 < seen < keys else 0
        start = index * chunk
        by_position = position_mask(
            start + shift + ops.arange(chunk, dtype="int32"),
            (start + first if band else clear)
            + ops.arange(keys - clear, dtype="int32"),
            causal,
            window,
        )
        bias = _first_keys(rows.get("bias", shared.get("bias")), keys)
        if "distance_bias" in rows:
            entries = rows["distance_bias"][..., : chunk + keys - 1]
            by_distance = to_distances(entries, chunk, keys)
            bias = by_distance if bias is None else bias + by_distance
        kept = None
        if dropout:
            shape = (*ops.shape(rows["query"])[:3], keys)
            kept = draw_kept(shape, dropout, seed, block * count + index)
        return attend(
            rows["query"],
            key,
            value,
            mask=combine_masks(
                _first_keys(mask_of(block, index), keys), by_position
            ),
            never_empty=mask is None and isinstance(shift, int) and shift >= 0,
            clear=clear,
            bias=bias,
            logit_soft_cap=logit_soft_cap,
            kept=kept,
            dropout=dropout,
        )[0]

    output = map_chunks(attend_chunk, rows, shared, count, blocks, groups)
    return _join(output, count, query.shape[1])[:, :, :num_queries]


def _loops_over_heads(bias):
    """Whether each chunk is of one head of the keys, which saves memory.

    A bias for all heads would have to be repeated. JAX and torch would add
    up gradients of all heads at every step.
    """
    fits = bias is None or bias.shape[1] != 1
    return keras.backend.backend() == "tensorflow" and fits


def _is_by_key(mask):
    """Whether a mask says the same for all queries, or there is none."""
    return mask is None or mask.shape[2] == 1


def _first_keys(tensor, keys):
    """The first keys of a mask or bias, which may be one for all keys."""
    if tensor is None or tensor.shape[-1] == 1:
        return tensor
    return tensor[..., :keys]


def _split(x, axis, count, chunk, blocks):
    """Split an axis into chunks, the last one filled up, and the heads.

    `(B, N, .. L ..)` to `(H * n, B, N / H, .. C ..)`, where one head that
    stands for all heads stays as it is.
    """
    blocks = 1 if x.shape[1] == 1 else blocks
    x = _cut(x, axis, 0, count * chunk)
    shape, heads = ops.shape(x), x.shape[1] // blocks
    sizes = (count, chunk)
    split = ops.reshape(
        x,
        (shape[0], blocks, heads, *shape[2:axis], *sizes, *shape[axis + 1 :]),
    )
    others = [n for n in range(6) if n not in (1, axis + 1)]
    split = ops.transpose(split, (1, axis + 1, *others))
    return ops.reshape(split, (blocks * count, *ops.shape(split)[2:]))


def _join(x, count, heads):
    """`(H * n, B, N / H, C, E)` to `(B, N, n * C, E)`."""
    _, batch, heads_of_block, chunk, width = ops.shape(x)
    blocks = heads // heads_of_block
    x = ops.reshape(x, (blocks, count, batch, heads_of_block, chunk, width))
    x = ops.transpose(x, (2, 0, 3, 1, 4, 5))  # [B, H, N / H, n, C, E]
    return ops.reshape(x, (batch, heads, count * chunk, width))


def _overlap(x, axis, count, chunk, pieces, blocks):
    """As `_split`, with pieces i, i + 1, … in chunk i."""
    blocks = 1 if x.shape[1] == 1 else blocks
    split = _split(x, axis, count + pieces - 1, chunk, blocks)
    rest = ops.shape(split)[1:]
    split = ops.reshape(split, (blocks, count + pieces - 1, *rest))
    joined = ops.concatenate(
        [split[:, piece : piece + count] for piece in range(pieces)],
        axis=axis + 2,
    )
    return ops.reshape(joined, (blocks * count, *ops.shape(joined)[2:]))


def _cut(x, axis, start, length):
    """`length` entries of an axis from `start` on, zeros where x has none."""
    size = ops.shape(x)[axis]
    before = _larger(-start, 0)
    after = _larger(start + length - size, 0)
    if not (_is_zero(before) and _is_zero(after)):
        padding = [(0, 0)] * len(x.shape)
        padding[axis] = (before, after)
        x = ops.pad(x, padding)
    first = _larger(start, 0)
    index = [slice(None)] * len(x.shape)
    index[axis] = slice(first, first + length)
    return x[tuple(index)]


def _stretches(bias, starts, length, blocks):
    """Entries of a bias by distance from each start on.

    `(N, T + S - 1)` to `(H * n, 1, N / H, length)`. Query i and key j meet at
    entry j - i + T - 1. Entries beyond the ends belong to keys or queries
    that do not exist.
    """
    heads, size = ops.shape(bias)
    entries = starts[:, None] + ops.arange(length, dtype="int32")
    entries = ops.clip(entries, 0, size - 1)  # [n, length]
    bias = ops.reshape(bias, (blocks, heads // blocks, size))
    taken = ops.moveaxis(ops.take(bias, entries, axis=2), 2, 1)
    return ops.reshape(taken, (-1, 1, heads // blocks, length))


def _ceil_divide(number, divisor):
    return -(-number // divisor)


def _is_zero(number):
    return isinstance(number, int) and number == 0


def _larger(x, y):
    known = isinstance(x, int) and isinstance(y, int)
    return max(x, y) if known else ops.maximum(x, y)


def _smaller(x, y):
    known = isinstance(x, int) and isinstance(y, int)
    return min(x, y) if known else ops.minimum(x, y)
