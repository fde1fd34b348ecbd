"""Exact attention in memory that grows with the length, not with its square.

The queries are split into chunks. Each chunk is attended to its keys by the
same code as the plain way, and the scores are computed again for the gradient
(Rabe & Staats, arXiv:2112.05682).

Three choices of keys. All of them, for every chunk. For causal attention only
those up to the end of the chunk, rounded up to an eighth of the length, which
saves nearly half of the work. For a window only the blocks that it reaches,
which makes the work linear in the length.

`n` chunks of `C` queries; other letters as in `dot_product.py`.
"""

from keras import ops

from keras_attention.ops.chunk_map import last_chunk
from keras_attention.ops.chunk_map import map_chunks
from keras_attention.ops.dot_product import attend
from keras_attention.ops.dot_product import draw_kept
from keras_attention.ops.dot_product import to_distances
from keras_attention.ops.masks import combine_masks
from keras_attention.ops.masks import position_mask

QUERIES_PER_CHUNK = 256
CAUSAL_GROUPS = 8


def chunked_attention(
    query,
    key,
    value,
    mask,
    bias,
    distance_bias,
    causal,
    window,
    logit_soft_cap,
    dropout,
    seed,
    queries_per_chunk=QUERIES_PER_CHUNK,
):
    """Output `(B, N, T, E)`; arguments as in `attend`, query scaled."""
    num_queries, num_keys = ops.shape(query)[2], ops.shape(key)[3]
    shift = num_keys - num_queries
    band = window is not None and _is_by_key(mask) and bias is None
    if band:
        chunk = min(queries_per_chunk, max(window, 16))
        count = _ceil_divide(num_queries, chunk)
        behind = _ceil_divide(window - 1, chunk)
        blocks = behind + 1 + (0 if causal else behind)
        width = blocks * chunk
    else:
        count = _ceil_divide(num_queries, queries_per_chunk)
        chunk = _ceil_divide(num_queries, count)
        width = num_keys
    groups = CAUSAL_GROUPS if causal and not band else 1

    rows, shared = {"query": _split(query, 2, count, chunk)}, {}
    if band:
        start = shift - behind * chunk

        def reach(x, axis):
            length = (count + blocks - 1) * chunk
            return _overlapping(
                _cut(x, axis, start, length), axis, count, chunk, blocks
            )

        rows |= {"key": reach(key, 3), "value": reach(value, 2)}
        # Blocks before the first key and after the last are seen by nobody.
        exists = ops.ones((1, 1, 1, num_keys), "bool") if mask is None else mask
        if exists.shape[3] == 1:
            exists = ops.broadcast_to(exists, (*exists.shape[:3], num_keys))
        row_mask, mask = reach(exists, 3), None
    else:
        start = 0
        shared = {"key": key, "value": value}
        row_mask = None
        if mask is not None and mask.shape[2] != 1:
            row_mask, mask = _split(mask, 2, count, chunk), None
        if bias is not None and bias.shape[2] != 1:
            rows["bias"] = _split(bias, 2, count, chunk)
        elif bias is not None:
            shared["bias"] = bias
    if distance_bias is not None:
        rows["distance_bias"] = _distances_of_chunks(
            distance_bias,
            num_queries,
            count,
            chunk,
            width,
            start if band else None,
        )

    def attend_chunk(group, index, rows, shared):
        key = rows["key"] if band else shared["key"]
        value = rows["value"] if band else shared["value"]
        keys = width
        if groups > 1:
            end = (last_chunk(group, count, groups) + 1) * chunk + shift
            keys = _smaller(_larger(end, 1), num_keys)
            key, value = key[..., :keys], value[:, :, :keys]
        seen = combine_masks(
            _keys(mask, keys),
            None if row_mask is None else _keys(row_mask[index], keys),
            position_mask(
                index * chunk + shift + ops.arange(chunk, dtype="int32"),
                ops.arange(keys, dtype="int32")
                + (index * chunk + start if band else 0),
                causal,
                window,
            ),
        )
        total = _keys(rows.get("bias", shared.get("bias")), keys)
        if "distance_bias" in rows:
            by_distance = to_distances(
                rows["distance_bias"][:, : chunk + keys - 1], chunk, keys
            )[None]
            total = by_distance if total is None else total + by_distance
        kept = None
        if dropout:
            shape = (ops.shape(value)[0], query.shape[1], chunk, keys)
            kept = draw_kept(shape, dropout, seed, index)
        output, _ = attend(
            rows["query"],
            key,
            value,
            mask=seen,
            bias=total,
            logit_soft_cap=logit_soft_cap,
            kept=kept,
            dropout=dropout,
        )
        return output

    output = map_chunks(attend_chunk, rows, shared, count, groups)
    return _join(output, num_queries)  # [B, N, T, E]


def _is_by_key(mask):
    """Whether a mask says the same for all queries, or there is none."""
    return mask is None or mask.shape[2] == 1


def _keys(tensor, keys):
    """The first keys of a mask or bias, which may be one for all keys."""
    if tensor is None or tensor.shape[-1] == 1:
        return tensor
    return tensor[..., :keys]


def _split(x, axis, count, chunk):
    """Split an axis into chunks, the last one filled up: `(n, ..., C, ...)`."""
    x = _cut(x, axis, 0, count * chunk)
    shape = ops.shape(x)
    shape = (*shape[:axis], count, chunk, *shape[axis + 1 :])
    return ops.moveaxis(ops.reshape(x, shape), axis, 0)


def _join(x, length):
    """Undo `_split` on axis 2: `(n, B, N, C, E)` to `(B, N, T, E)`."""
    batch, heads, _, width = ops.shape(x)[1:]
    joined = ops.reshape(ops.moveaxis(x, 0, 2), (batch, heads, -1, width))
    return joined[:, :, :length]


def _overlapping(x, axis, count, chunk, blocks):
    """Chunk i becomes blocks i, i + 1, …: `(n, ..., blocks * C, ...)`."""
    split = _split(x, axis, count + blocks - 1, chunk)
    return ops.concatenate(
        [split[block : block + count] for block in range(blocks)],
        axis=axis + 1,
    )


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


def _distances_of_chunks(bias, num_queries, count, chunk, width, band_start):
    """The part of a bias by distance that each chunk needs.

    `(N, T + S - 1)` to `(n, N, C + width - 1)`, in the order that
    `to_distances` wants. Query i and key j meet at entry j - i + T - 1.
    """
    first = num_queries - chunk
    index = ops.arange(count, dtype="int32")[:, None]
    moved = -index * chunk if band_start is None else band_start + 0 * index
    entries = first + moved + ops.arange(chunk + width - 1, dtype="int32")
    entries = ops.clip(entries, 0, ops.shape(bias)[1] - 1)
    return ops.moveaxis(ops.take(bias, entries, axis=1), 1, 0)


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
