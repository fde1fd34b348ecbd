"""Scaled dot-product attention: softmax(Q Kᵀ / √D) V, exact in every option.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.

`dispatch.py` chooses which implementation computes it.
"""

from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.dispatch import AttentionExplanation
from keras_attention.ops.attention.dispatch import attend
from keras_attention.ops.attention.dispatch import choose_path
from keras_attention.ops.attention.masks import bias_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import join_heads
from keras_attention.ops.attention.masks import positions_in_use
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.precision import to_float
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability
from keras_attention.validation import check_seed

IMPLEMENTATIONS = ("auto", "fused", "unfused", "plain", "chunked")


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
    head_mixing: Any = None,
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
    their gradient is zero. The softmax is computed in at least float32.
    Queries and keys of half precision are multiplied as such by a fused
    kernel, which adds up in float32, and are cast to float32 without one.
    Grouped keys and values are not repeated: heads `g · N/K` up to
    `(g + 1) · N/K - 1` share head g of the keys. If there are fewer queries
    than keys, the queries are the last of the positions.

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
        head_mixing: Two float tensors of shape `(N, N)`, "talking heads":
            products[m] becomes Σ_n products[n] · first[n, m], before a cap,
            bias or mask, and scores[m] Σ_n scores[n] · second[n, m]. Defaults
            to `None`.
        dropout: Float in [0, 1), rate at which scores are dropped. Defaults
            to `0.0`.
        seed: Integer or `keras.random.SeedGenerator`; required for dropout.
            Defaults to `None`.
        return_scores: Boolean, whether to return the scores, before dropout,
            as well. Defaults to `False`.
        implementation: `"plain"`, `"chunked"`, or `"auto"`: a fused kernel
            of the backend that honours all options in use; without one,
            chunked beyond a million scores a head or if the lengths are not
            known. `"fused"` raises an error where no kernel can be taken, and
            `"unfused"` takes none. `explain_attention` says which is taken.
            Defaults to `"auto"`.

    Returns:
        Tensor of shape `(B, T, N, E)` and the dtype of `query`; with
        `return_scores`, also the scores of shape `(B, N, T, S)`.

    Raises:
        TypeError: If `mask` is of floats.
        ValueError: For shapes that do not fit each other, an option out of
            its range, or `"fused"` where there is no kernel.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, equation
        1. Chunks: Rabe & Staats, arXiv:2112.05682. Grouped heads: Ainslie et
        al., arXiv:2305.13245. Soft cap: Gemma 2, arXiv:2408.00118, section 2.
        Sinks: gpt-oss, arXiv:2508.10925. Talking heads: Shazeer et al.,
        arXiv:2003.02436, section 3.

    Example:

    >>> x = np.random.normal(size=(2, 5, 4, 8)).astype("float32")
    >>> output, scores = keras_attention.ops.scaled_dot_product_attention(
    ...     x, x, x, causal=True, return_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 4, 8), (2, 4, 5, 5))
    """
    query, key, value, options = _prepare_inputs(
        query,
        key,
        value,
        implementation,
        mask=mask,
        bias=bias,
        distance_bias=distance_bias,
        causal=causal,
        window=window,
        scale=scale,
        logit_soft_cap=logit_soft_cap,
        sinks=sinks,
        head_mixing=head_mixing,
        dropout=dropout,
        seed=seed,
        return_scores=return_scores,
    )
    output, scores = attend(query, key, value, options, implementation)
    return (output, scores) if return_scores else output


def explain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    implementation: str = "auto",
    **options: Any,
) -> AttentionExplanation:
    """Returns which path attention takes, and why not a faster one.

    The paths are `"plain"` and `"chunked"` on every backend, torch's fused
    kernel `"torch"` and, through JAX on a GPU, cuDNN's kernel `"cudnn"`. The
    choice depends on shapes, dtypes, devices and options; on torch also on
    whether a bias requires a gradient. Nothing is computed.

    The layers log the same at the level `DEBUG`, by the logger
    `keras_attention`.

    Args:
        query: Float tensor of shape `(B, T, N, D)`.
        key: Float tensor of shape `(B, S, K, D)`.
        value: Float tensor of shape `(B, S, K, E)`.
        implementation: As in `scaled_dot_product_attention`. Defaults to
            `"auto"`.
        **options: The other options of `scaled_dot_product_attention`.

    Returns:
        An object with the attributes `path`, a string, and `reasons`, a
        dictionary from the name of each faster path to the reason why it is
        not taken. As a string it is a sentence for each.

    Raises:
        TypeError: For an unknown option.
        ValueError: As `scaled_dot_product_attention` does.

    Example:

    >>> x = np.ones((1, 8, 2, 4), "float32")
    >>> found = keras_attention.ops.explain_attention(
    ...     x, x, x, causal=True, return_scores=True)
    >>> found.path
    'plain'
    >>> found.reasons["chunked"]
    'has no `return_scores`'
    """
    unknown = options.keys() - AttentionOptions.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(
            "`options` must be options of `scaled_dot_product_attention`. "
            f"Received: {sorted(unknown)}"
        )
    query, key, value, prepared = _prepare_inputs(
        query, key, value, implementation, **options
    )
    path, reasons = choose_path(query, key, value, prepared, implementation)
    return AttentionExplanation(path.name, reasons)


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


def _prepare_inputs(query, key, value, implementation, **options):
    """Check and convert the arguments; replace what is masked by zeros."""
    check_choice("implementation", implementation, IMPLEMENTATIONS)
    query, key, value = (_to_float_tensor(x) for x in (query, key, value))
    check_attention_shapes(query.shape, key.shape, value.shape)
    options = AttentionOptions(**options)
    _check_options(options)
    scores_shape = _scores_shape(query, key)
    changes: dict[str, Any] = {}
    mask, causal, window = options.mask, options.causal, options.window
    if mask is not None:
        mask = to_boolean_mask("mask", mask)
        mask = expand_to_heads("mask", mask, scores_shape)
    if options.bias is not None:
        bias = _to_float_tensor(options.bias)
        changes["bias"] = bias = expand_to_heads("bias", bias, scores_shape)
        mask = combine_masks(mask, bias_mask(bias))
    changes["mask"] = mask
    num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
    if mask is not None or _has_unreached(
        num_queries, num_keys, causal, window
    ):
        some = ops.ones((1, 1, 1, 1), "bool") if mask is None else mask
        in_use = positions_in_use(some, num_queries, num_keys, causal, window)
        if options.head_mixing is not None:
            in_use = join_heads(in_use)
        query, key, value = replace_unused(query, key, value, in_use)
    if options.distance_bias is not None:
        distance_bias = ops.convert_to_tensor(options.distance_bias)
        _check_distance_bias(distance_bias, scores_shape)
        changes["distance_bias"] = distance_bias
    if options.sinks is not None:
        changes["sinks"] = _sinks_by_score(options.sinks, query.shape[2])
    if options.head_mixing is not None:
        changes["head_mixing"] = _mixing_kernels(
            options.head_mixing, query.shape[2]
        )
    if not options.dropout:
        changes["seed"] = None
    return query, key, value, options.replace(**changes)


def _has_unreached(queries, keys, causal, window):
    """Whether causality or a window alone leaves a query or key out."""
    if not isinstance(queries, int) or not isinstance(keys, int):
        return False
    has_window = window is not None
    if queries > keys:
        return causal or has_window
    return has_window and keys - queries >= window


def _to_float_tensor(x):
    return to_float(ops.convert_to_tensor(x))


def _scores_shape(query, key):
    return query.shape[0], query.shape[2], query.shape[1], key.shape[1]


def _check_options(options):
    check_probability("dropout", options.dropout)
    if options.window is not None:
        check_positive_integer("window", options.window)
    if options.logit_soft_cap is not None:
        check_number("logit_soft_cap", options.logit_soft_cap, 0, None, True)
    if options.dropout and options.seed is None:
        raise ValueError(
            "Dropout needs a `seed`: an integer, or a "
            "`keras.random.SeedGenerator` for new values at every call. "
            f"Received: dropout={options.dropout}, seed=None"
        )
    if not isinstance(options.seed, keras.random.SeedGenerator):
        check_seed(options.seed)


def _sinks_by_score(sinks, heads):
    sinks = ops.convert_to_tensor(sinks)
    if tuple(sinks.shape) != (heads,):
        raise ValueError(
            "`sinks` must have one logit for each head of the queries, shape "
            f"{(heads,)}. Received: sinks of shape {tuple(sinks.shape)}"
        )
    return ops.reshape(sinks, (1, heads, 1, 1))


def _mixing_kernels(head_mixing, heads):
    kernels = [ops.convert_to_tensor(kernel) for kernel in head_mixing]
    shapes = [tuple(kernel.shape) for kernel in kernels]
    if shapes != [(heads, heads)] * 2:
        raise ValueError(
            "`head_mixing` must be two matrices with a row and a column for "
            f"each head, of shape {(heads, heads)}. Received: head_mixing of "
            f"shapes {shapes}"
        )
    return kernels


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
