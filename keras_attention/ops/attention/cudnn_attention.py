"""Attention by cuDNN's fused kernel, through JAX on an NVIDIA GPU.

`jax.nn.dot_product_attention` gives it lengths instead of a padding mask; a
mask that is no padding at the end, which only running shows, takes the other
path. `B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys,
`D` width of queries, keys and values.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import keras
from jax import numpy as jnp

from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.precision import HALF
from keras_attention.types import Tensor

IMPLEMENTATION = "cudnn"
# What every version and GPU holds; later ones hold wider heads.
LARGEST_WIDTH = 128


def find_obstacle(
    query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
) -> str | None:
    """Why cuDNN's kernel would not give the result; `None` if it does."""
    if keras.config.is_flash_attention_enabled() is False:
        return "is turned off by `keras.config.disable_flash_attention()`"
    obstacle = find_device_obstacle()
    if obstacle is not None:
        return obstacle
    dtypes = {str(tensor.dtype) for tensor in (query, key, value)}
    if len(dtypes) > 1 or not dtypes <= set(HALF):
        return f"is for float16 or bfloat16, not for {', '.join(dtypes)}"
    width = query.shape[3]
    if width > LARGEST_WIDTH or width % 8 or width != value.shape[3]:
        return (
            f"needs heads of one width, a multiple of 8 up to {LARGEST_WIDTH}"
        )
    if 0 in (*query.shape, *key.shape):
        return "needs at least one query and one key"
    if options.causal and query.shape[1] != key.shape[1]:
        return "counts `causal` from the first key"
    if options.window is not None and not options.causal:
        return "has no `window` without `causal`"
    if options.mask is not None:
        if options.window is not None:
            return "has no `window` with `mask`"
        if options.mask.shape[1:3] != (1, 1):
            return "needs a mask of keys alone"
    return None


@functools.cache
def find_device_obstacle() -> str | None:
    """Why the kernel does not run on the default device; `None` if it does."""
    device = jax.config.jax_default_device
    if jax.default_backend() != "gpu" or device is not None:
        return "needs a GPU as the default device"
    x = jnp.ones((1, 64, 1, 64), "bfloat16")
    try:
        with jax.ensure_compile_time_eval():
            jax.grad(
                lambda x: jax.nn.dot_product_attention(
                    x, x, x, implementation=IMPLEMENTATION
                ).sum()
            )(x).block_until_ready()
    # Driver, library or GPU: each fails in its own way.
    except Exception as error:
        return f"does not run on this device: {error}"
    return None


def cudnn_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionOptions,
    differentiable: Callable[..., Any],
) -> tuple[Any, None]:
    """Attend with cuDNN's kernel.

    Args:
        query: Queries, `(B, T, N, D)`.
        key: Keys, `(B, S, K, D)`.
        value: Values, `(B, S, K, D)`.
        options: Options.
        differentiable: Function of the same four arguments to the same
            output, for gradients that are differentiated again, and for
            masks that are no padding at the end.

    Returns:
        Output `(B, T, N, D)`, and `None` for the scores.
    """
    inputs, mask = (query, key, value), options.mask
    fused = functools.partial(
        _fused, options.causal, options.window, options.scale
    )
    without_mask = options.replace(mask=None)

    def again(inputs, mask):
        return differentiable(*inputs, without_mask.replace(mask=mask))

    if mask is None:
        return _attend(fused, again, inputs, None), None
    batch, keys = key.shape[:2]
    mask = jnp.broadcast_to(mask, (batch, 1, 1, keys))
    lengths = mask.sum(-1, keepdims=True)
    is_padding = jnp.all(mask == (jnp.arange(keys) < lengths))
    output = jax.lax.cond(
        is_padding,
        functools.partial(_attend, fused, again),
        again,
        inputs,
        mask,
    )
    return output, None


def _fused(causal, window, scale, inputs, mask):
    """The kernel's output; `mask` is of padding at the end."""
    lengths = None if mask is None else mask.sum((1, 2, 3))
    output = jax.nn.dot_product_attention(
        *inputs,
        scale=scale,
        is_causal=causal,
        key_value_seq_lengths=(
            # Rows without keys read one, and are replaced.
            None if mask is None else jnp.maximum(lengths, 1).astype("int32")
        ),
        local_window_size=None if window is None else (window - 1, 0),
        implementation=IMPLEMENTATION,
    )
    if mask is None:
        return output
    return jnp.where(lengths[:, None, None, None] > 0, output, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(fused, again, inputs, mask):
    """`fused(inputs, mask)`, which can be differentiated twice.

    The kernel's gradient cannot be differentiated; that of `again`, which
    has the same output, can.
    """
    return fused(inputs, mask)


def _attend_forward(fused, again, inputs, mask):
    output, pull_back = jax.vjp(lambda inputs: fused(inputs, mask), inputs)
    return output, (pull_back, inputs, mask)


def _attend_backward(fused, again, residuals, upstream):
    return _gradient(again, *residuals, upstream), None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradient(again, pull_back, inputs, mask, upstream):
    return pull_back(upstream)[0]


def _gradient_forward(again, pull_back, inputs, mask, upstream):
    gradient = pull_back(upstream)[0]
    return gradient, (pull_back, inputs, mask, upstream)


def _gradient_backward(again, residuals, second):
    pull_back, inputs, mask, upstream = residuals

    def gradient(inputs, upstream):
        _, pull_back = jax.vjp(lambda inputs: again(inputs, mask), inputs)
        return pull_back(upstream)[0]

    _, pull_twice = jax.vjp(gradient, inputs, upstream)
    to_inputs, to_upstream = pull_twice(second)
    nothing = jax.tree.map(jnp.zeros_like, pull_back)
    return nothing, to_inputs, None, to_upstream


_attend.defvjp(_attend_forward, _attend_backward)
_gradient.defvjp(_gradient_forward, _gradient_backward)
