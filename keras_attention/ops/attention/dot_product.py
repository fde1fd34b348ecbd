"""The core that every path runs, on all queries or on a chunk of them.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.
"""

import functools
from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.options import MASKED
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.compilation import inside_xla
from keras_attention.types import Shape
from keras_attention.types import Tensor


def attend_block(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionOptions,
    never_empty: bool = False,
    num_unmasked: int = 0,
    index: Any = 0,
) -> tuple[Any, Any]:
    """Attend from a block of queries to a block of keys.

    Args:
        query: Scaled queries, `(B, N, T, D)`.
        key: Transposed keys, `(B, K, D, S)`.
        value: Values, `(B, K, S, E)`.
        options: Options whose mask and bias hold for this block, those by
            position and by distance included. The mask broadcasts to
            `(B, N, T, S - num_unmasked)`.
        never_empty: Boolean, whether the mask leaves every query a key.
        num_unmasked: Integer, number of keys, the first ones, that every
            query attends to and that the mask leaves out; not with a bias or
            a cap.
        index: Index of the block, which determines its dropout.

    Returns:
        Output `(B, N, T, E)`, and the scores `(B, N, T, S)`.
    """
    mask, product = options.mask, matmul
    if num_unmasked:
        mask_of_rows = _repeat_rows(mask, query.shape[1] // key.shape[1])
        product = functools.partial(
            _matmul_and_mask, mask=mask_of_rows, num_unmasked=num_unmasked
        )
    if options.additive is not None:
        product = functools.partial(_add_up, factor=options.additive)
    scores = _grouped_product(query, key, product)  # [B, N, T, S]
    if options.head_mixing is not None:
        scores = mix_heads(scores, options.head_mixing[0])
    scores = attention_weights(scores, options, is_masked=bool(num_unmasked))
    has_keys = None
    if mask is not None and not never_empty:
        has_keys = ops.any(mask, axis=-1, keepdims=True)
    if options.head_mixing is not None:
        if has_keys is not None:
            # Of a head without keys the others get nothing.
            scores = ops.where(has_keys, scores, 0)
            has_keys = ops.any(has_keys, axis=1, keepdims=True)
        scores = mix_heads(scores, options.head_mixing[1])
    weights = scores
    if options.dropout:
        kept = dropout_mask(ops.shape(scores), options, index)
        weights = ops.where(kept, scores / (1 - options.dropout), 0)
    output = _grouped_product(weights, value, _matmul_with_long_factor)
    if has_keys is not None:
        # Replaced, not multiplied by 0: the mean of no values may be NaN.
        output = ops.where(has_keys, output, 0)
        if options.return_scores:
            scores = ops.where(has_keys, scores, 0)
    return output, scores


def attention_weights(
    scores: Tensor, options: AttentionOptions, is_masked: bool = False
) -> Any:
    """Weights of the keys: the softmax of the modified scores.

    The mixing of heads before and after is left to the caller.

    Args:
        scores: Scaled products, `(B, N, T, S)`.
        options: Options, the masks and biases of which belong to `scores`.
        is_masked: Boolean, whether `scores` are masked already.

    Returns:
        Tensor of the shape of `scores`.
    """
    if options.logit_soft_cap is not None:
        cap = options.logit_soft_cap
        scores = cap * ops.tanh(scores / cap)
    if options.bias is not None:
        scores = scores + options.bias
    if options.mask is not None and not is_masked:
        scores = _replace_masked(scores, options.mask)
    if options.sinks is None:
        return _softmax(scores)
    shape = (*ops.shape(scores)[:3], 1)
    sinks = ops.broadcast_to(options.sinks, shape)
    return _softmax(ops.concatenate([scores, sinks], axis=-1))[..., :-1]


def dropout_mask(shape: Shape, options: AttentionOptions, index: Any) -> Any:
    """Draw which weights dropout keeps; the same at each call.

    Args:
        shape: Shape of the result.
        options: Options with the rate and the seed.
        index: Index of the chunk, which has values of its own.
    """
    seed, rate = options.seed, options.dropout
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        seed = tf.random.fold_in(tf.cast(seed, "int32"), index)
        return tf.random.stateless_uniform(shape, seed) >= rate
    if backend == "jax":
        import jax

        seed = jax.numpy.asarray(seed).astype("uint32")
        chunk_key = jax.random.fold_in(jax.random.wrap_key_data(seed), index)
        return jax.random.bernoulli(chunk_key, 1 - rate, shape)
    import torch

    first, second = (int(number) for number in seed)
    generator = torch.Generator(device=seed.device)
    generator.manual_seed(hash((first, second, index)))
    drawn = torch.rand(shape, generator=generator, device=seed.device)
    return drawn >= rate


def expand_relative_bias(bias: Tensor, num_queries: Any, num_keys: Any) -> Any:
    """Expand a bias by distance to one for every query and key.

    `(..., T + S - 1)` to `(..., T, S)`, where entry `[i, j]` is
    `bias[j - i + T - 1]`: a Toeplitz matrix, made without a gather. Rows of
    one length, read as rows that are one shorter, move on by one each.
    """
    lead = tuple(bias.shape[:-1])
    length = num_queries + num_keys
    after = ops.pad(
        bias[..., num_queries - 1 :], [(0, 0)] * len(lead) + [(0, 1)]
    )
    bias = ops.concatenate(
        [after, bias[..., : num_queries - 1]], axis=-1
    )  # [.., T + S], entry [(j - i) mod (T + S)] for query i and key j
    rows = ops.broadcast_to(bias[..., None, :], (*lead, num_queries, length))
    flat = ops.reshape(rows, (*lead, num_queries * length))
    flat = flat[..., : num_queries * (length - 1)]
    rows = ops.reshape(flat, (*lead, num_queries, length - 1))
    return rows[..., :num_keys]


def mix_heads(scores: Tensor, kernel: Tensor) -> Any:
    """Sum over heads n of `scores[:, n] * kernel[n, m]`, for each head m."""
    batch, heads, *sizes = ops.shape(scores)
    flat = ops.reshape(scores, (batch, heads, sizes[0] * sizes[1]))
    mixed = matmul(ops.transpose(kernel), flat)
    return ops.reshape(mixed, (batch, heads, *sizes))


def matmul(x: Tensor, y: Tensor) -> Any:
    """Matrix product of two tensors of one dtype, which it keeps.

    Keras' own narrows float64 to float32 on torch.
    """
    if keras.backend.backend() == "torch":
        import torch

        return torch.matmul(*(ops.convert_to_tensor(each) for each in (x, y)))
    return ops.matmul(x, y)


def _matmul_and_mask(x, y, mask, num_unmasked):
    """Matrix product, masked from column `num_unmasked` on.

    For TensorFlow's graph, where the choice takes longer than the product:
    most of a causal mask is of keys that all queries attend to. The gradient
    is that of the product: the softmax sends none to masked scores.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def multiply(x, y):
        def gradient(upstream):
            return (
                tf.matmul(upstream, y, transpose_b=True),
                tf.matmul(x, upstream, transpose_a=True),
            )

        masked = x @ y[..., num_unmasked:]
        masked = tf.where(mask, masked, tf.cast(MASKED, masked.dtype))
        return tf.concat([x @ y[..., :num_unmasked], masked], -1), gradient

    return multiply(x, y)


def _add_up(x, y, factor):
    """Scores by the tanh of sums in place of a product; as `matmul`."""
    sums = ops.tanh(
        ops.expand_dims(x, -1) + ops.expand_dims(y, 2)
    )  # [B, K, T, D, S]
    return ops.cast(factor, sums.dtype) * ops.sum(sums, axis=3)


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
    # Not -1 for the batch, which says nothing where there is no query.
    batch, _, length, width = ops.shape(x)
    stacked = ops.reshape(x, (batch, shared, heads // shared * length, width))
    stacked = product(stacked, y)  # [B, K, N/K * T, S]
    return ops.reshape(stacked, (batch, heads, length, ops.shape(y)[3]))


def _softmax(scores):
    if scores.shape[-1] == 0:
        return scores
    # Keras warns about a softmax of one number; here that is a lone key.
    return 1 + 0 * scores if scores.shape[-1] == 1 else ops.softmax(scores)


def _replace_masked(scores, mask):
    """Put `MASKED` where the mask is False, just before a softmax.

    The softmax sends no gradient back to there, nor does `attend_block` to a
    row without keys: the gradient need not be masked again.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.where(mask, scores, ops.cast(MASKED, scores.dtype))
    import tensorflow as tf

    @tf.custom_gradient
    def replace(scores):
        masked = tf.where(mask, scores, tf.cast(MASKED, scores.dtype))
        return masked, tf.identity

    return replace(scores)
