"""Scaled dot-product attention: softmax(Q Kᵀ / √D) V, exact in every option.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.

Two ways give one result. The plain one holds the `(B, N, T, S)` scores. The
chunked one (`chunked_attention.py`) holds those of one chunk of queries.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.chunked_attention import chunked_attention
from keras_attention.ops.attention.dot_product import HIDDEN
from keras_attention.ops.attention.dot_product import attend
from keras_attention.ops.attention.dot_product import draw_kept
from keras_attention.ops.attention.dot_product import to_distances
from keras_attention.ops.attention.masks import check_boolean_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.precision import widen
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability

# With more scores a head than this, chunks are taken: the plain way is a
# little faster below, and its scores are few.
PLAIN_LIMIT = 1024 * 1024
_only_plain = contextvars.ContextVar("only_plain", default=False)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """In this context, `implementation="auto"` is the plain way.

    For graphs that must have no loop, also where lengths are not known.
    """
    token = _only_plain.set(True)
    try:
        yield
    finally:
        _only_plain.reset(token)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    bias: Any = None,
    distance_bias: Any = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    logit_soft_cap: float | None = None,
    dropout: float = 0.0,
    seed: int | keras.random.SeedGenerator | None = None,
    return_scores: bool = False,
    implementation: str = "auto",
) -> Any:
    """Attention of queries to keys, and the mean of values that it gives.

        scores = softmax(cap(scale · Q Kᵀ) + bias)      # [B, N, T, S]
        output = dropout(scores) V                      # [B, T, N, E]

    A query that may see no key gets zeros, and sends back no gradient. All is
    computed in at least float32, with the queries scaled first. Grouped keys
    and values are not repeated: heads `g · N/K` up to `(g + 1) · N/K - 1`
    share head g of the keys. Queries are the last of the positions if there
    are fewer of them than keys.

    Args:
        query: tensor of shape `(B, T, N, D)`.
        key: tensor of shape `(B, S, K, D)`, where K divides N.
        value: tensor of shape `(B, S, K, E)`.
        mask: boolean, True where a key is seen; of shape `(T, S)`,
            `(B, T, S)` or `(B, N, T, S)`, where sizes may be 1.
        bias: float tensor that is added to the scaled scores; shapes as for
            `mask`.
        distance_bias: float tensor of shape `(N, T + S - 1)`, a bias that
            depends on the distance alone: entry `[n, j - i + T - 1]` is added
            to the score of query i and key j.
        causal: query i sees keys up to `S - T + i`.
        window: a query sees the keys less than `window` positions away.
        scale: factor of the products; `None` is 1/√D.
        logit_soft_cap: c; scaled products s become c · tanh(s / c), before
            any bias.
        dropout: rate at which scores are dropped.
        seed: integer or `keras.random.SeedGenerator`; needed for dropout.
        return_scores: also return the scores, before dropout.
        implementation: `"plain"`, `"chunked"`, or `"auto"`: chunked beyond
            a million scores a head, or if the lengths are not known.

    Returns:
        Tensor of shape `(B, T, N, E)` and the dtype of `query`; with
        `return_scores`, also the scores of shape `(B, N, T, S)`.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: for shapes that do not fit each other or an option out of
            its range.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, equation
        1. Chunks: Rabe & Staats, arXiv:2112.05682. Grouped heads: Ainslie et
        al., arXiv:2305.13245. Soft cap: Gemma 2, arXiv:2408.00118, section 2.
    """
    query, key, value = map(ops.convert_to_tensor, (query, key, value))
    if distance_bias is not None:
        distance_bias = ops.convert_to_tensor(distance_bias)
    _check_shapes(query, key, value, distance_bias)
    _check_options(window, logit_soft_cap, dropout, seed, implementation)
    dtype = query.dtype
    scores_shape = (
        query.shape[0],
        query.shape[2],
        query.shape[1],
        key.shape[1],
    )
    if mask is not None:
        mask = check_boolean_mask("mask", ops.convert_to_tensor(mask))
        mask = expand_to_heads("mask", mask, scores_shape)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    query, key, value = widen(query), widen(key), widen(value)
    if bias is not None:
        bias = ops.convert_to_tensor(bias)
        bias = expand_to_heads("bias", bias, scores_shape)
        # A -inf, or what was too low for float16, would give NaN in a row.
        bias = ops.maximum(ops.cast(bias, query.dtype), HIDDEN)
    if distance_bias is not None:
        distance_bias = ops.cast(distance_bias, query.dtype)
    seed = _draw_seed(seed) if dropout else None

    options = {
        "mask": mask,
        "bias": bias,
        "distance_bias": distance_bias,
        "causal": causal,
        "window": window,
        "logit_soft_cap": logit_soft_cap,
        "dropout": dropout,
        "seed": seed,
    }
    query = ops.transpose(query * scale, (0, 2, 1, 3))  # [B, N, T, D]
    value = ops.transpose(value, (0, 2, 1, 3))  # [B, K, S, E]
    plain = _takes_plain(implementation, return_scores, scores_shape)
    scores = None
    given = (mask, bias, distance_bias, window, logit_soft_cap, seed)
    has_no_options = all(option is None for option in given)
    if (
        not plain
        and implementation == "auto"
        and has_no_options
        and _torch_fits(query, key, value, causal)
    ):
        output = _torch_attention(query, key, value, causal)
    else:
        key = ops.transpose(key, (0, 2, 3, 1))  # [B, K, D, S]
        if plain:
            output, scores = _plain(
                query, key, value, **options, return_scores=return_scores
            )
        else:
            output = chunked_attention(query, key, value, **options)
    output = ops.cast(ops.transpose(output, (0, 2, 1, 3)), dtype)
    return (output, ops.cast(scores, dtype)) if return_scores else output


def _plain(
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
    return_scores,
):
    queries, keys = ops.shape(query)[2], ops.shape(key)[3]
    if distance_bias is not None:
        by_distance = to_distances(distance_bias, queries, keys)[None]
        bias = by_distance if bias is None else bias + by_distance
    by_position = position_mask(
        query_positions(queries, keys),
        ops.arange(keys, dtype="int32"),
        causal,
        window,
    )
    shape = (ops.shape(query)[0], query.shape[1], queries, keys)
    return attend(
        query,
        key,
        value,
        mask=combine_masks(mask, by_position),
        # A position sees itself.
        never_empty=mask is None and _known_at_least(keys, queries),
        bias=bias,
        logit_soft_cap=logit_soft_cap,
        kept=draw_kept(shape, dropout, seed, 0) if dropout else None,
        dropout=dropout,
        return_scores=return_scores,
    )


def _torch_fits(query, key, value, causal):
    """Whether torch's own kernel gives the result, if there are no options.

    It counts a causal mask from the first key, and cannot be differentiated
    twice: it is for inference.
    """
    if keras.backend.backend() != "torch":
        return False
    import torch

    differentiated = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (query, key, value)
    )
    return not differentiated and (not causal or query.shape[2] == key.shape[1])


def _torch_attention(query, key, value, causal):
    from torch.nn.functional import scaled_dot_product_attention as fused

    return fused(
        query,
        key.permute(0, 2, 1, 3),
        value,
        is_causal=causal,
        scale=1.0,
        enable_gqa=query.shape[1] != key.shape[2],
    )


def _takes_plain(implementation, return_scores, scores_shape):
    if return_scores or 0 in scores_shape:
        return True
    if implementation != "auto":
        return implementation == "plain"
    if _only_plain.get():
        return True
    queries, keys = scores_shape[2:]
    known = queries is not None and keys is not None
    return known and queries * keys <= PLAIN_LIMIT


def _draw_seed(seed):
    if isinstance(seed, int):
        return ops.convert_to_tensor([seed & 0x7FFFFFFF, 0], dtype="int32")
    return seed.next()


def _check_options(window, logit_soft_cap, dropout, seed, implementation):
    check_choice("implementation", implementation, ("auto", "plain", "chunked"))
    check_probability("dropout", dropout)
    if window is not None:
        check_positive_integer("window", window)
    if logit_soft_cap is not None:
        check_number("logit_soft_cap", logit_soft_cap, 0, None, True)
    if dropout and seed is None:
        raise ValueError(
            "Dropout needs a `seed`: an integer, or a "
            "`keras.random.SeedGenerator` for new values at every call. "
            f"Received: dropout={dropout}, seed=None"
        )


def _check_shapes(query, key, value, distance_bias):
    shapes = [tuple(tensor.shape) for tensor in (query, key, value)]
    received = (
        f"Received: query of shape {shapes[0]}, key of shape {shapes[1]}, "
        f"value of shape {shapes[2]}"
    )
    if [len(shape) for shape in shapes] != [4, 4, 4]:
        raise ValueError(
            "`query`, `key` and `value` must have the shape (batch, length, "
            f"heads, width). {received}"
        )
    for axis, name in ((0, "batch"), (1, "length"), (2, "heads")):
        if _differ(shapes[1][axis], shapes[2][axis]):
            raise ValueError(
                f"`key` and `value` must have the same {name}. {received}"
            )
    if _differ(shapes[0][0], shapes[1][0]):
        raise ValueError(
            f"`query` and `key` must have the same batch. {received}"
        )
    if _differ(shapes[0][3], shapes[1][3]):
        raise ValueError(
            f"`query` and `key` must have the same width. {received}"
        )
    if shapes[0][2] % shapes[1][2]:
        raise ValueError(
            "The heads of `query` must be a multiple of the heads of `key`. "
            f"{received}"
        )
    if distance_bias is None:
        return
    queries, keys = shapes[0][1], shapes[1][1]
    known = queries is not None and keys is not None
    length = queries + keys - 1 if known else None
    shape = tuple(distance_bias.shape)
    if (
        len(shape) != 2
        or _differ(shape[0], shapes[0][2])
        or _differ(shape[1], length)
    ):
        raise ValueError(
            "`distance_bias` must have the shape (heads, queries + keys - 1), "
            f"here {(shapes[0][2], length)}. Received: distance_bias of shape "
            f"{shape}"
        )


def _known_at_least(size, other):
    known = isinstance(size, int) and isinstance(other, int)
    return known and size >= other


def _differ(size, other):
    return size is not None and other is not None and size != other
