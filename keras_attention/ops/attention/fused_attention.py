"""The fused kernels of the backends.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.
"""

from typing import Any

import keras

from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.types import Tensor


def torch_fits(
    query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
) -> bool:
    """Whether torch's own kernel gives the result.

    It counts a causal mask from the first key, and cannot be differentiated
    twice: it is for inference.
    """
    if keras.backend.backend() != "torch":
        return False
    import torch

    differentiated = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (query, key, value)
    )
    aligned = not options.causal or query.shape[2] == key.shape[3]
    return aligned and not differentiated


def torch_attention(
    query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
) -> Any:
    """Attend with torch's own kernel.

    Args:
        query: Scaled queries, `(B, N, T, D)`.
        key: Transposed keys, `(B, K, D, S)`.
        value: Values, `(B, K, S, E)`.
        options: Options.

    Returns:
        Output `(B, N, T, E)`, and `None` for the scores.
    """
    from torch.nn.functional import scaled_dot_product_attention as fused

    output = fused(
        query,
        key.permute(0, 1, 3, 2),
        value,
        is_causal=options.causal,
        scale=1.0,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output, None
