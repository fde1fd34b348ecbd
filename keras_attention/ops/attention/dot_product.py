"""The core that both ways of attention run, on all queries or on a chunk.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.
"""

import functools
from typing import Any

import keras
from keras import ops

from keras_attention.ops.compilation import inside_xla

# Far below every finite score, and far from the end of float32: hidden keys
# get a weight of exactly 0, and a row of hidden keys no NaN.
HIDDEN = -1e30


def attend(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    never_empty: bool = False,
    clear: int = 0,
    bias: Any = None,
    logit_soft_cap: float | None = None,
    kept: Any = None,
    dropout: float = 0.0,
    return_scores: bool = False,
) -> tuple[Any, Any]:
    """The values' mean, and the scores that give it.

    Args:
        query: scaled, `(B, N, T, D)`.
        key: transposed, `(B, K, D, S)`.
        value: `(B, K, S, E)`.
        mask: boolean, broadcasts to `(B, N, T, S - clear)`.
        never_empty: whether the mask leaves every query a key.
        clear: number of keys, the first ones, that every query sees and that
            the mask leaves out; not with a bias or a cap.
        bias: broadcasts to `(B, N, T, S)`.
        logit_soft_cap: largest absolute score before the bias.
        kept: boolean `(B, N, T, S)`, False where dropout drops.
        dropout: rate at which `kept` was drawn.
        return_scores: whether the scores are wanted.

    Returns:
        Output `(B, N, T, E)` and, if wanted, scores `(B, N, T, S)`.
    """
    product = matmul
    if clear:
        mask_of_rows = _repeat_rows(mask, query.shape[1] // key.shape[1])
        product = functools.partial(
            _matmul_and_hide, mask=mask_of_rows, clear=clear
        )
    scores = _grouped_product(query, key, product)  # [B, N, T, S]
    if logit_soft_cap is not None:
        scores = logit_soft_cap * ops.tanh(scores / logit_soft_cap)
    if bias is not None:
        scores = scores + bias
    if mask is not None and not clear:
        scores = _hide(scores, mask)
    weights = scores = _softmax(scores)
    if kept is not None:
        weights = ops.where(kept, scores / (1 - dropout), 0)
    output = _grouped_product(weights, value, _matmul_with_long_factor)
    if mask is not None and not never_empty:
        sees_any = ops.cast(ops.any(mask, -1, keepdims=True), scores.dtype)
        output = output * sees_any
        scores = scores * sees_any if return_scores else None
    return output, scores


def draw_kept(shape: Any, dropout: float, seed: Any, index: Any) -> Any:
    """Draw which scores dropout keeps; the same at each call.

    Args:
        shape: of the result.
        dropout: rate.
        seed: two integers, as drawn from a `keras.random.SeedGenerator`.
        index: of the chunk, which has values of its own.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        seed = tf.random.fold_in(tf.cast(seed, "int32"), index)
        return tf.random.stateless_uniform(shape, seed) >= dropout
    if backend == "jax":
        import jax

        seed = jax.numpy.asarray(seed).astype("uint32")
        chunk_key = jax.random.fold_in(jax.random.wrap_key_data(seed), index)
        return jax.random.bernoulli(chunk_key, 1 - dropout, shape)
    import torch

    first, second = (int(number) for number in seed)
    generator = torch.Generator(device=seed.device)
    generator.manual_seed(hash((first, second, index)))
    drawn = torch.rand(shape, generator=generator, device=seed.device)
    return drawn >= dropout


def to_distances(bias: Any, num_queries: Any, num_keys: Any) -> Any:
    """Lay a bias by distance out for every query and key.

    `(..., T + S - 1)` to `(..., T, S)`, where entry `[i, j]` is
    `bias[j - i + T - 1]`: a Toeplitz matrix, made without a gather. Rows of
    one length, read as rows that are one shorter, move on by one each.
    """
    lead = tuple(bias.shape[:-1])
    length = num_queries + num_keys
    bias = ops.concatenate(
        [
            bias[..., num_queries - 1 :],
            ops.zeros_like(bias[..., :1]),
            bias[..., : num_queries - 1],
        ],
        axis=-1,
    )  # [.., T + S], entry [(j - i) mod (T + S)] for query i and key j
    rows = ops.broadcast_to(bias[..., None, :], (*lead, num_queries, length))
    flat = ops.reshape(rows, (*lead, num_queries * length))
    flat = flat[..., : num_queries * (length - 1)]
    rows = ops.reshape(flat, (*lead, num_queries, length - 1))
    return rows[..., :num_keys]


def matmul(x: Any, y: Any) -> Any:
    """Matrix product of two tensors of one dtype, which it keeps.

    Keras' own narrows float64 to float32 on torch.
    """
    if keras.backend.backend() == "torch":
        import torch

        return torch.matmul(*(ops.convert_to_tensor(each) for each in (x, y)))
    return ops.matmul(x, y)


def _softmax(scores):
    # Keras warns about a softmax of one number; here that is a lone key.
    return 1 + 0 * scores if scores.shape[-1] == 1 else ops.softmax(scores)


def _hide(scores, mask):
    """Put `HIDDEN` where the mask is False, just before a softmax.

    The softmax sends no gradient back to there, nor does `attend` to a row
    that sees nothing: it need not be hidden again.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.where(mask, scores, ops.cast(HIDDEN, scores.dtype))
    import tensorflow as tf

    @tf.custom_gradient
    def hide(scores):
        hidden = tf.where(mask, scores, tf.cast(HIDDEN, scores.dtype))
        return hidden, tf.identity

    return hide(scores)


def _matmul_and_hide(x, y, mask, clear):
    """Matrix product, hidden by the mask from column `clear` on.

    For TensorFlow's graph, where the choice takes longer than the product:
    most of a causal mask is of keys that are all seen. The gradient is that
    of the product; hidden ones get none, as in `_hide`.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def multiply(x, y):
        def gradient(upstream):
            return (
                tf.matmul(upstream, y, transpose_b=True),
                tf.matmul(x, upstream, transpose_a=True),
            )

        hidden = x @ y[..., clear:]
        hidden = tf.where(mask, hidden, tf.cast(HIDDEN, hidden.dtype))
        return tf.concat([x @ y[..., :clear], hidden], -1), gradient

    return multiply(x, y)


def _repeat_rows(mask, times):
    """The mask of heads that are stacked as rows, each after the other."""
    return mask if times == 1 else ops.tile(mask, (1, 1, times, 1))


def _matmul_with_long_factor(x, y):
    """As `matmul`, where y has many more rows than columns.

    The automatic gradient to y is a product of a long transposed factor. On
    TensorFlow's CPU its transpose is computed in half the time.
    """
    if keras.backend.backend() != "tensorflow" or inside_xla():
        return matmul(x, y)
    import tensorflow as tf

    @tf.custom_gradient
    def multiply(x, y):
        def gradient(upstream):
            transposed = tf.matmul(upstream, x, transpose_a=True)
            return (
                tf.matmul(upstream, y, transpose_b=True),
                tf.linalg.matrix_transpose(transposed),
            )

        return x @ y, gradient

    return multiply(x, y)


def _grouped_product(x, y, product=matmul):
    """`(B, N, T, D)` times `(B, K, D, S)`: N/K heads of x share one of y."""
    heads, shared = x.shape[1], y.shape[1]
    if heads == shared:
        return product(x, y)
    length, width = ops.shape(x)[2:]
    stacked = ops.reshape(x, (-1, shared, heads // shared * length, width))
    stacked = product(stacked, y)  # [B, K, N/K * T, S]
    return ops.reshape(stacked, (-1, heads, length, ops.shape(y)[3]))
