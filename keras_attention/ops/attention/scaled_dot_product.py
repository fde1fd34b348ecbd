"""Scaled dot-product attention: softmax(Q Kᵀ / √D) V, exact in every option.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.

Several paths give one result. The plain one holds the `(B, N, T, S)` scores.
The chunked one (`chunked_attention.py`) holds those of one chunk of queries.
A backend's fused kernel (`fused_attention.py`) holds none.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.chunked_attention import chunked_attention
from keras_attention.ops.attention.dot_product import attend_block
from keras_attention.ops.attention.dot_product import expand_relative_bias
from keras_attention.ops.attention.fused_attention import torch_attention
from keras_attention.ops.attention.fused_attention import torch_fits
from keras_attention.ops.attention.masks import bias_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import positions_in_use
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.attention.options import LEAST_BIAS
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.attention.options import AttentionPath
from keras_attention.ops.precision import widen
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability

# With more scores a head than this, chunks are taken: the plain path is a
# little faster below, and its scores are few.
PLAIN_LIMIT = 1024 * 1024
_only_plain = contextvars.ContextVar("only_plain", default=False)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Make `implementation="auto"` the plain path inside this context.

    For graphs that must have no loop, also where lengths are not known.
    """
    token = _only_plain.set(True)
    try:
        yield
    finally:
        _only_plain.reset(token)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    distance_bias: Any = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    logit_soft_cap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    seed: int | keras.random.SeedGenerator | None = None,
    return_scores: bool = False,
    implementation: str = "auto",
) -> Any:
    """Computes attention from queries to keys, and the values' mean by it.

        scores = softmax(cap(scale · Q Kᵀ) + bias)      # [B, N, T, S]
        output = dropout(scores) V                      # [B, T, N, E]

    A query without keys, because all are masked or there are none, gets
    zeros and sends back no gradient. Keys that no query attends to, and
    queries without keys, may hold anything: they are replaced by zeros, and
    their gradient is zero. The softmax is computed in at least float32, with
    the queries scaled first. Grouped keys and values are not repeated: heads
    `g · N/K` up to `(g + 1) · N/K - 1` share head g of the keys. If there are
    fewer queries than keys, the queries are the last of the positions.

    Args:
        query: Float tensor of shape `(B, T, N, D)`.
        key: Float tensor of shape `(B, S, K, D)`, where K divides N.
        value: Float tensor of shape `(B, S, K, E)`.
        mask: Boolean tensor, `True` where a query attends to a key; of shape
            `(T, S)`, `(B, T, S)` or `(B, N, T, S)`, where sizes may be 1.
            Integers 0 and 1 and nested lists are accepted. Defaults to
            `None`.
        bias: Float tensor that is added to the scaled scores; shapes as for
            `mask`. Where it is -inf, or below -1e29, the key is masked.
            Defaults to `None`.
        distance_bias: Float tensor of shape `(N, T + S - 1)`, a bias that
            depends on the distance alone: entry `[n, j - i + T - 1]` is added
            to the score of query i and key j. Defaults to `None`.
        causal: Boolean, whether query i attends only to keys up to
            `S - T + i`. Defaults to `False`.
        window: Integer, a query attends only to keys less than `window`
            positions away. Defaults to `None`, all keys.
        scale: Float factor of the products. Defaults to `None`, `1 / √D`.
        logit_soft_cap: Float c; scaled products s become `c · tanh(s / c)`,
            before any bias. Defaults to `None`.
        sinks: Float tensor of shape `(N,)`, a logit for each head that is
            added to the softmax's denominator, so that the scores of a query
            sum to less than 1. Defaults to `None`.
        dropout: Float in [0, 1), rate at which scores are dropped. Defaults
            to `0.0`.
        seed: Integer or `keras.random.SeedGenerator`; required for dropout.
            Defaults to `None`.
        return_scores: Boolean, whether to return the scores, before dropout,
            as well. Defaults to `False`.
        implementation: `"plain"`, `"chunked"`, or `"auto"`: chunked, or a
            fused kernel that honours all options in use, beyond a million
            scores a head or if the lengths are not known. Defaults to
            `"auto"`.

    Returns:
        Tensor of shape `(B, T, N, E)` and the dtype of `query`; with
        `return_scores`, also the scores of shape `(B, N, T, S)`.

    Raises:
        TypeError: If `mask` is of floats.
        ValueError: For shapes that do not fit each other, or an option out of
            its range.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, equation
        1. Chunks: Rabe & Staats, arXiv:2112.05682. Grouped heads: Ainslie et
        al., arXiv:2305.13245. Soft cap: Gemma 2, arXiv:2408.00118, section 2.
        Sinks: gpt-oss, arXiv:2508.10925.

    Example:

    >>> x = np.random.normal(size=(2, 5, 4, 8)).astype("float32")
    >>> output, scores = keras_attention.ops.scaled_dot_product_attention(
    ...     x, x, x, causal=True, return_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 4, 8), (2, 4, 5, 5))
    """
    check_choice("implementation", implementation, ("auto", "plain", "chunked"))
    query, key, value = (_to_float_tensor(x) for x in (query, key, value))
    check_attention_shapes(query.shape, key.shape, value.shape)
    scores_shape = _scores_shape(query, key)
    _check_options(window, logit_soft_cap, dropout, seed)
    if mask is not None:
        mask = to_boolean_mask("mask", mask)
        mask = expand_to_heads("mask", mask, scores_shape)
    if bias is not None:
        bias = _to_float_tensor(bias)
        bias = expand_to_heads("bias", bias, scores_shape)
        mask = combine_masks(mask, bias_mask(bias))
    num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
    if mask is not None or _has_unreached(
        num_queries, num_keys, causal, window
    ):
        some = ops.ones((1, 1, 1, 1), "bool") if mask is None else mask
        in_use = positions_in_use(some, num_queries, num_keys, causal, window)
        query, key, value = replace_unused(query, key, value, in_use)
    if distance_bias is not None:
        distance_bias = ops.convert_to_tensor(distance_bias)
        _check_distance_bias(distance_bias, scores_shape)
    if sinks is not None:
        sinks = _sinks_by_score(sinks, query.shape[2])
    options = AttentionOptions(
        mask=mask,
        bias=bias,
        distance_bias=distance_bias,
        causal=causal,
        window=window,
        scale=scale,
        logit_soft_cap=logit_soft_cap,
        sinks=sinks,
        dropout=dropout,
        seed=seed if dropout else None,
        return_scores=return_scores,
    )
    output, scores = attend(query, key, value, options, implementation)
    return (output, scores) if return_scores else output


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionOptions,
    implementation: str = "auto",
) -> tuple[Any, Any]:
    """Attend along the fastest path that honours the options.

    Args:
        query: Queries, `(B, T, N, D)`.
        key: Keys, `(B, S, K, D)`.
        value: Values, `(B, S, K, E)`.
        options: Options; mask and bias with four axes. Keys that the mask
            leaves to no query must be finite.
        implementation: See `scaled_dot_product_attention`.

    Returns:
        Output `(B, T, N, E)`, and the scores `(B, N, T, S)` if they are
        asked for, else `None`.
    """
    dtype, scores_shape = query.dtype, _scores_shape(query, key)
    scale = options.scale
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    query = ops.transpose(widen(query) * scale, (0, 2, 1, 3))  # [B, N, T, D]
    key = ops.transpose(widen(key), (0, 2, 3, 1))  # [B, K, D, S]
    value = ops.transpose(widen(value), (0, 2, 1, 3))  # [B, K, S, E]
    options = _prepare(options, query.dtype, scores_shape)
    path = _choose_path(query, key, value, options, implementation)
    output, scores = path(query, key, value, options)
    output = ops.cast(ops.transpose(output, (0, 2, 1, 3)), dtype)
    scores = ops.cast(scores, dtype) if options.return_scores else None
    return output, scores  # [B, T, N, E], [B, N, T, S]


def replace_unused(
    query: Tensor, key: Tensor, value: Tensor, in_use: Tensor
) -> Any:
    """Replace queries without keys, and keys that no query attends to.

    Args:
        query: Queries, `(B, T, N, D)`.
        key: Keys, `(B, S, K, D)`.
        value: Values, `(B, S, K, E)`.
        in_use: What `positions_in_use` returned.

    Returns:
        Query, key and value.
    """
    queries, keys = in_use  # [b, n, T], [b, n, S]
    if keys.shape[1] != 1:
        batch, heads, length = ops.shape(keys)
        groups = (batch, key.shape[2], heads // key.shape[2], length)
        keys = ops.any(ops.reshape(keys, groups), axis=2)  # [b, K, S]
    queries, keys = (ops.swapaxes(x, 1, 2) for x in (queries, keys))
    return (
        replace_masked(query, queries),
        replace_masked(key, keys),
        replace_masked(value, keys),
    )


def check_attention_shapes(
    query_shape: Shape, key_shape: Shape, value_shape: Shape
) -> None:
    """Check `(B, T, N, D)`, `(B, S, K, D)` and `(B, S, K, E)`.

    Raises:
        ValueError: If known sizes do not fit each other.
    """
    shapes = [tuple(s) for s in (query_shape, key_shape, value_shape)]
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


def _plain(query, key, value, options):
    queries, keys = ops.shape(query)[2], ops.shape(key)[3]
    bias = options.bias
    if options.distance_bias is not None:
        by_distance = expand_relative_bias(options.distance_bias, queries, keys)
        bias = by_distance if bias is None else bias + by_distance
    by_position = position_mask(
        query_positions(queries, keys),
        ops.arange(keys, dtype="int32"),
        options.causal,
        options.window,
    )
    known = isinstance(keys, int) and isinstance(queries, int)
    return attend_block(
        query,
        key,
        value,
        options.replace(
            mask=combine_masks(options.mask, by_position),
            bias=bias,
            distance_bias=None,
        ),
        # A position attends to itself.
        never_empty=options.mask is None and known and keys >= queries,
    )


PLAIN = AttentionPath(
    "plain",
    _plain,
    honours=frozenset(
        {
            "mask",
            "bias",
            "distance_bias",
            "causal",
            "window",
            "scale",
            "logit_soft_cap",
            "sinks",
            "dropout",
            "seed",
            "return_scores",
        }
    ),
)
CHUNKED = AttentionPath(
    "chunked", chunked_attention, honours=PLAIN.honours - {"return_scores"}
)
TORCH = AttentionPath(
    "torch",
    torch_attention,
    honours=frozenset({"causal", "scale"}),
    fits=torch_fits,
)


def _choose_path(query, key, value, options, implementation):
    queries, keys = query.shape[2], key.shape[3]
    known = queries is not None and keys is not None
    if options.return_scores or implementation == "plain":
        return PLAIN
    if implementation == "chunked":
        return CHUNKED
    if _only_plain.get() or (known and queries * keys <= PLAIN_LIMIT):
        return PLAIN
    for path in (TORCH, CHUNKED):
        if path.accepts(query, key, value, options):
            return path
    return PLAIN


def _prepare(options, dtype, scores_shape):
    """Tensors of the options in the dtype of the scores."""
    changes = {
        name: ops.maximum(ops.cast(tensor, dtype), LEAST_BIAS)
        for name, tensor in options.by_score().items()
    }
    if options.distance_bias is not None:
        changes["distance_bias"] = (
            ops.maximum(ops.cast(options.distance_bias, dtype), LEAST_BIAS)
            if 0 not in scores_shape
            else None
        )
    if options.seed is not None:
        changes["seed"] = _draw_seed(options.seed)
    return options.replace(**changes)


def _has_unreached(queries, keys, causal, window):
    """Whether causality or a window alone leaves a query or key out."""
    if not isinstance(queries, int) or not isinstance(keys, int):
        return False
    has_window = window is not None
    if queries > keys:
        return causal or has_window
    return has_window and keys - queries >= window


def _to_float_tensor(x):
    x = ops.convert_to_tensor(x)
    is_float = "float" in keras.backend.standardize_dtype(x.dtype)
    return x if is_float else ops.cast(x, keras.config.floatx())


def _scores_shape(query, key):
    return query.shape[0], query.shape[2], query.shape[1], key.shape[1]


def _draw_seed(seed):
    if isinstance(seed, int):
        return ops.convert_to_tensor([seed & 0x7FFFFFFF, 0], dtype="int32")
    return seed.next()


def _check_options(window, logit_soft_cap, dropout, seed):
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


def _sinks_by_score(sinks, heads):
    sinks = ops.convert_to_tensor(sinks)
    if tuple(sinks.shape) != (heads,):
        raise ValueError(
            "`sinks` must have one logit for each head of the queries, shape "
            f"{(heads,)}. Received: sinks of shape {tuple(sinks.shape)}"
        )
    return ops.reshape(sinks, (1, heads, 1, 1))


def _check_distance_bias(distance_bias, scores_shape):
    heads, queries, keys = scores_shape[1:]
    known = queries is not None and keys is not None
    length = max(queries + keys - 1, 0) if known else None
    shape = tuple(distance_bias.shape)
    if len(shape) != 2 or _differ(shape[0], heads) or _differ(shape[1], length):
        raise ValueError(
            "`distance_bias` must have the shape (heads, queries + keys - 1), "
            f"here {(heads, length)}. Received: distance_bias of shape {shape}"
        )


def _differ(size, other):
    return size is not None and other is not None and size != other
