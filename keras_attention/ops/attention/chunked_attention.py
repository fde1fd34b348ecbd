"""Exact attention in memory that grows with the length, not with its square.

The queries are split into chunks, as `chunk_plan.py` says. Each chunk attends
to its keys by the same code as the plain path, and the scores are computed
again for the gradient (Rabe & Staats, arXiv:2112.05682).

`n` chunks of `C` queries; other letters as in `dot_product.py`. Where heads
are looped over too, `H` is their number, else 1.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.chunk_map import map_chunks
from keras_attention.ops.attention.chunk_plan import ChunkPlan
from keras_attention.ops.attention.chunk_plan import larger
from keras_attention.ops.attention.chunk_plan import plan_chunks
from keras_attention.ops.attention.dot_product import attend_block
from keras_attention.ops.attention.dot_product import expand_relative_bias
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.compilation import inside_xla
from keras_attention.types import Tensor

# With these options alone, the keys before a chunk's queries need no mask.
UNMASKED_PREFIX = frozenset({"causal", "scale", "dropout", "seed"})

# The two of `head_mixing`, among the tensors that chunks share.
MIXING = ("logit_mixing", "score_mixing")


def chunked_attention(
    query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
) -> Any:
    """Attend chunk by chunk.

    Args:
        query: Scaled queries, `(B, N, T, D)`.
        key: Transposed keys, `(B, K, D, S)`.
        value: Values, `(B, K, S, E)`.
        options: Options, mask and biases with four axes.

    Returns:
        Output `(B, N, T, E)`, and `None` for the scores.
    """
    heads, key_heads = query.shape[1], key.shape[1]
    reads_all = options.bias is not None or not _is_by_key(options.mask)
    plan = plan_chunks(
        ops.shape(query)[2],
        ops.shape(key)[3],
        heads // key_heads,
        options.causal,
        None if reads_all else options.window,
    )
    blocks = key_heads if _loops_over_heads(options) else 1
    rows, shared = _split_inputs(query, key, value, options, plan, blocks)
    mask, mask_index = _split_mask(options.mask, plan, blocks)
    masks_prefix = (
        options.causal
        and options.in_use() <= UNMASKED_PREFIX
        and keras.backend.backend() == "tensorflow"
        and not inside_xla()
    )

    def attend_chunk(group, block, index, rows, shared):
        tensors = {**shared, **rows}
        num_keys = plan.num_keys_of(group)
        num_unmasked = plan.num_unmasked(group) if masks_prefix else 0
        first = plan.first_read(index) + num_unmasked
        by_position = position_mask(
            index * plan.chunk
            + plan.shift
            + ops.arange(plan.chunk, dtype="int32"),
            first + ops.arange(num_keys - num_unmasked, dtype="int32"),
            options.causal,
            options.window,
        )
        own_mask = None if mask is None else mask[mask_index(block, index)]
        changes = {
            name: _first_keys(tensors[name], num_keys)
            for name in options.by_score()
        }
        if "distance_bias" in tensors:
            entries = tensors["distance_bias"][..., : plan.chunk + num_keys - 1]
            by_distance = expand_relative_bias(entries, plan.chunk, num_keys)
            changes["bias"] = changes.get("bias", 0) + by_distance
        if options.head_mixing is not None:
            changes["head_mixing"] = [tensors[name] for name in MIXING]
        never_empty = isinstance(plan.shift, int) and plan.shift >= 0
        return attend_block(
            tensors["query"],
            tensors["key"],
            tensors["value"],
            options.replace(
                **changes,
                mask=combine_masks(
                    _first_keys(own_mask, num_keys), by_position
                ),
                distance_bias=None,
            ),
            never_empty=mask is None and never_empty,
            num_unmasked=num_unmasked,
            index=block * plan.count + index,
        )[0]

    def cut(group, shared):
        if plan.groups == 1:
            return shared
        num_keys = plan.num_keys_of(group)
        return {
            name: x[..., :num_keys, :]
            if name == "value"
            else x
            if name in MIXING
            else _first_keys(x, num_keys)
            for name, x in shared.items()
        }

    output = map_chunks(
        attend_chunk, rows, shared, plan.count, blocks, plan.groups, cut
    )
    return _join(output, plan.count, heads)[:, :, : plan.num_queries], None


def _split_inputs(query, key, value, options, plan, blocks):
    """Tensors of each chunk, and those that the chunks of a head share.

    `[H * n, B, N / H, ...]` and `[H, B, N / H, ...]` each.
    """

    def by_query(x):  # [H * n, B, N / H, C, .]
        return _split(x, 2, plan.count, plan.chunk, blocks)

    def by_head(x):  # [H, B, N / H, ., .]
        return _split(x, 3, 1, ops.shape(x)[3], blocks)

    rows, shared = {"query": by_query(query)}, {}
    if plan.pieces is None:
        shared |= {"key": by_head(key), "value": by_head(value)}
    else:
        rows["key"] = _by_reach(key, 3, plan, blocks)
        rows["value"] = _by_reach(value, 2, plan, blocks)
    for name, tensor in options.by_score().items():
        if _is_by_key(tensor):
            shared[name] = by_head(tensor)
        else:
            rows[name] = by_query(tensor)
    if options.head_mixing is not None:
        for name, kernel in zip(MIXING, options.head_mixing, strict=True):
            shared[name] = ops.expand_dims(kernel, 0)
    if options.distance_bias is not None:
        lead = plan.num_queries - plan.chunk + plan.first_key
        step = -plan.chunk if plan.pieces is None else 0
        rows["distance_bias"] = _stretches(
            options.distance_bias,
            lead + ops.arange(plan.count, dtype="int32") * step,
            plan.chunk + plan.num_read - 1,
            blocks,
        )
    return rows, shared


def _split_mask(mask, plan, blocks):
    """Masks of the chunks, and a function of block and chunk to its index."""
    differs_by_head = mask is not None and mask.shape[1] != 1
    by_chunk = plan.pieces is not None or not _is_by_key(mask)
    if plan.pieces is not None:
        # Keys before the first and after the last one do not exist.
        exists = ops.ones((1, 1, 1, plan.num_keys), "bool")
        mask = _by_reach(combine_masks(exists, mask), 3, plan, blocks)
    elif mask is not None and by_chunk:
        mask = _split(mask, 2, plan.count, plan.chunk, blocks)
    elif mask is not None:
        mask = _split(mask, 3, 1, ops.shape(mask)[3], blocks)

    def index_of(block, index):
        block = block if differs_by_head else 0
        return block * plan.count + index if by_chunk else block

    return mask, index_of


def _by_reach(x, axis, plan: ChunkPlan, blocks):
    """The keys in reach of each chunk, `[H * n, B, N / H, .. P * C ..]`."""
    length = (plan.count + plan.pieces - 1) * plan.chunk
    x = _cut(x, axis, plan.first_key, length)
    return _overlap(x, axis, plan.count, plan.chunk, plan.pieces, blocks)


def _loops_over_heads(options):
    """Whether each chunk is of one head of the keys, which saves memory.

    Not where heads are mixed, which takes all of them.
    A bias for all heads would have to be repeated. JAX and torch would add
    up gradients of all heads at every step.
    """
    fits = options.head_mixing is None and all(
        x.shape[1] != 1 for x in options.by_score().values()
    )
    return keras.backend.backend() == "tensorflow" and fits


def _is_by_key(mask):
    """Whether a mask or bias is the same for all queries, or `None`."""
    return mask is None or mask.shape[2] == 1


def _first_keys(tensor, keys):
    """The first keys of a mask or bias, which may be one for all keys."""
    if tensor is None or tensor.shape[-1] == 1:
        return tensor
    return tensor[..., :keys]


def _split(x, axis, count, chunk, blocks):
    """Split an axis into chunks, the last one filled up, and the heads.

    `(B, N, .. L ..)` to `(H * n, B, N / H, .. C ..)`, where one head that
    is shared by all heads stays as it is.
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
    before = larger(-start, 0)
    after = larger(start + length - size, 0)
    if not (_is_zero(before) and _is_zero(after)):
        padding = [(0, 0)] * len(x.shape)
        padding[axis] = (before, after)
        x = ops.pad(x, padding)
    first = larger(start, 0)
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


def _is_zero(number):
    return isinstance(number, int) and number == 0
