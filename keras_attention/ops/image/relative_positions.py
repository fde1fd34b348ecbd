"""Scores of where a key is: a learned vector for each distance to it.

`B` batch, `h`, `w` rows and columns of the queries, `k`, `l` of the keys, `N`
heads, `D` width of a head.
"""

from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor


def relative_logits(query: Tensor, rows: Tensor, columns: Tensor) -> Any:
    """Scaled products of queries with the vectors of distances.

    Query `i` and key `j` of an axis are `j - i` apart, plus a number that is
    the same for all of them: the first vector is that of the last query and
    the first key.

    Args:
        query: Queries, `(B, h, w, N, D)`.
        rows: Vectors of the distances in height, `(h + k - 1, D)`.
        columns: Vectors of the distances in width, `(w + l - 1, D)`.

    Returns:
        Float tensor `(B, N, h w, k l)` of at least float32, positions row by
        row.
    """
    batch, height, width, heads, depth = ops.shape(query)
    query = widen(query) * depth**-0.5
    rows = _by_distance(rows, height, query.dtype)
    columns = _by_distance(columns, width, query.dtype)
    # To row i and to column j, of the query at row x and column y.
    by_row = ops.einsum("bxynd,xid->bnxyi", query, rows)
    by_column = ops.einsum("bxynd,yjd->bnxyj", query, columns)
    logits = by_row[..., None] + by_column[..., None, :]
    keys = rows.shape[1] * columns.shape[1]
    return ops.reshape(logits, (batch, heads, height * width, keys))


def _by_distance(table, queries, dtype):
    """`(queries + keys - 1, D)` to `(queries, keys, D)`."""
    keys = table.shape[0] - queries + 1
    places = ops.arange(queries, dtype="int32")[:, None]
    distances = ops.arange(keys, dtype="int32") - places + queries - 1
    return ops.cast(ops.take(table, distances, axis=0), dtype)
