"""Which queries make a chunk, and which keys each chunk reads.

Numbers only: Python integers where the lengths are known, scalar tensors
where they are not. `chunked_attention.py` carries the plan out.

Three choices of keys. All of them, for every chunk. For causal attention only
those up to the end of the chunk, rounded up to an eighth of the length, which
saves nearly half of the work. For a window only the pieces within its reach,
which makes the work linear in the length.
"""

import dataclasses
from typing import Any

from keras import ops

from keras_attention.ops.attention.chunk_map import last_chunk
from keras_attention.types import Tensor

# Scores of one head of keys in a chunk, 8 MiB: smaller chunks' products take
# longer, and larger ones are no longer small compared with queries and keys.
SCORES_PER_CHUNK = 2**21
QUERIES_PER_CHUNK = 256, 1024
CAUSAL_GROUPS = 8


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """Chunks of queries and the keys that they read.

    Query i of chunk c is query `c * chunk + i`, and at the position of key
    `c * chunk + i + shift`.

    Args:
        num_queries: Number of queries.
        num_keys: Number of keys.
        count: Number of chunks.
        chunk: Number of queries in a chunk; the last one is filled up.
        pieces: Number of pieces of `chunk` keys that a chunk reads, if it
            reads only those within reach. `None` if all chunks start at the
            first key.
        first_key: First key that chunk 0 reads, negative if it is before the
            sequence. Chunk c starts `c * chunk` keys later if `pieces` is
            set, and at the same key otherwise.
        num_read: Largest number of keys that a chunk reads.
        groups: Number of groups of chunks that read equally many keys.
    """

    num_queries: Any
    num_keys: Any
    count: Any
    chunk: Any
    pieces: int | None
    first_key: Any
    num_read: Any
    groups: Any

    @property
    def shift(self) -> Any:
        """Position of the first query among the keys."""
        return self.num_keys - self.num_queries

    def num_keys_of(self, group: Any) -> Any:
        """Number of keys that the chunks of a group read."""
        if self.groups == 1:
            return self.num_read
        return smaller(larger(self._end(group), 1), self.num_keys)

    def num_unmasked(self, group: Any) -> int:
        """Number of keys that causality masks for no query of a group.

        0 if that is not known.
        """
        end = self._end(group - 1)
        known = isinstance(end, int) and isinstance(self.num_keys, int)
        return end if known and 0 < end < self.num_keys_of(group) else 0

    def first_read(self, index: Any) -> Any:
        """First key that a chunk reads."""
        if self.pieces is None:
            return 0
        return index * self.chunk + self.first_key

    def _end(self, group):
        """Position after the last query of a group."""
        last = last_chunk(group, self.count, self.groups)
        return (last + 1) * self.chunk + self.shift


def plan_chunks(
    num_queries: Any,
    num_keys: Any,
    heads_per_key: int = 1,
    causal: bool = False,
    reach: int | None = None,
) -> ChunkPlan:
    """Plan the chunks of attention from `num_queries` to `num_keys`.

    Args:
        num_queries: Integer or scalar tensor.
        num_keys: Integer or scalar tensor.
        heads_per_key: Integer, heads that share a head of keys and are rows
            of one product with it.
        causal: Boolean, whether a query attends to no later key.
        reach: Integer, window within which a query attends to keys, if
            chunks are to read only those. `None` reads all.
    """
    shift = num_keys - num_queries
    least, most = QUERIES_PER_CHUNK
    if reach is not None:
        chunk = min(least, max(reach, 16))
        count = larger(ceil_divide(num_queries, chunk), 1)
        behind = ceil_divide(reach - 1, chunk)
        pieces = behind + 1 + (0 if causal else behind)
        return ChunkPlan(
            num_queries,
            num_keys,
            count=count,
            chunk=chunk,
            pieces=pieces,
            first_key=shift - behind * chunk,
            num_read=pieces * chunk,
            groups=1,
        )
    rows = least
    if isinstance(num_keys, int):
        fitting = SCORES_PER_CHUNK // max(num_keys, 1)
        rows = min(max(fitting, least), most)
    # At least one chunk of one query, also where there is no query.
    count = larger(ceil_divide(num_queries, max(1, rows // heads_per_key)), 1)
    chunk = larger(ceil_divide(num_queries, count), 1)
    few = isinstance(count, int) and count < CAUSAL_GROUPS
    return ChunkPlan(
        num_queries,
        num_keys,
        count=count,
        chunk=chunk,
        pieces=None,
        first_key=0,
        num_read=num_keys,
        groups=(count if few else CAUSAL_GROUPS) if causal else 1,
    )


def ceil_divide(number: Any, divisor: Any) -> Any:
    """Quotient rounded up."""
    return -(-number // divisor)


def larger(x: Tensor, y: Tensor) -> Any:
    """Maximum of integers or scalar tensors."""
    known = isinstance(x, int) and isinstance(y, int)
    return max(x, y) if known else ops.maximum(x, y)


def smaller(x: Tensor, y: Tensor) -> Any:
    """Minimum of integers or scalar tensors."""
    known = isinstance(x, int) and isinstance(y, int)
    return min(x, y) if known else ops.minimum(x, y)
