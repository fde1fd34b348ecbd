"""Attention by torch's fused kernel, in training and inference.

`torch.nn.functional.scaled_dot_product_attention` never holds the scores. It
cannot count causality from the last key, knows no window, and reads a mask of
every query and key from memory. So windows are folded into the batch, chunk by
chunk, and causal attention with a mask is split into a few pieces, each with
the keys that it reaches.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values; `n` chunks of `C` queries that
read `P` keys each.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import torch
from torch.autograd import forward_ad
from torch.nn import functional

from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.options import MASKED
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.types import Tensor

# Pieces of causal attention with a mask: eight leave 9/16 of the work.
PIECES = 8
QUERIES_PER_PIECE = 64
# Chunks of a window, which reads about this many keys more on each side.
QUERIES_PER_CHUNK = 16, 256
HALF = (torch.float16, torch.bfloat16)


def find_obstacle(
    query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions
) -> str | None:
    """Why torch's kernel would not give the result; `None` if it does."""
    tensors = query, key, value
    if keras.config.is_flash_attention_enabled() is False:
        return "is turned off by `keras.config.disable_flash_attention()`"
    devices = {tensor.device.type for tensor in tensors}
    if not devices <= {"cpu", "cuda"}:
        return f"is for CPU and CUDA, not for {', '.join(sorted(devices))}"
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1:
        return "needs one dtype for query, key and value"
    if 0 in (*query.shape, *key.shape, *value.shape):
        return "needs at least one query and one key"
    if any(
        forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    ):
        return "has no forward-mode derivative"
    bias = options.bias
    if bias is not None:
        if query.dtype in HALF:
            return f"would round `bias` to {query.dtype}"
        if bias.requires_grad and torch.is_grad_enabled():
            return "has no gradient to `bias`"
    return None


def torch_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionOptions,
    differentiable: Callable[..., Any],
) -> tuple[Any, None]:
    """Attend with torch's kernel.

    Args:
        query: Queries, `(B, T, N, D)`.
        key: Keys, `(B, S, K, D)`.
        value: Values, `(B, S, K, E)`.
        options: Options.
        differentiable: Function of the same four arguments to the same
            output, for gradients that are differentiated again.

    Returns:
        Output `(B, T, N, E)`, and `None` for the scores.
    """
    inputs = query, key, value
    q, k, v = (x.transpose(1, 2) for x in inputs)
    output = _attend(q, k, v, options).transpose(1, 2)
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):

        def again(query, key, value):
            return differentiable(query, key, value, options)

        output = _DifferentiableAgain.apply(output, again, *inputs)
    return output, None


class _DifferentiableAgain(torch.autograd.Function):
    """The kernel's output, with a gradient that can be differentiated.

    The kernel's own gradient cannot. It is the one that is computed, unless
    the gradient is asked for with `create_graph=True`: then it is that of
    `again(query, key, value)`, a function to the same output.
    """

    @staticmethod
    def forward(output, again, query, key, value):
        return output.view_as(output)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.again, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, upstream):
        if not torch.is_grad_enabled():
            return upstream, None, None, None, None
        # Views: a query may itself be computed from the keys.
        inputs = [x.view_as(x) for x in ctx.saved_tensors]
        wanted = [x for x in inputs if x.requires_grad]
        gradients = iter(
            torch.autograd.grad(
                ctx.again(*inputs), wanted, upstream, create_graph=True
            )
        )
        return (
            None,
            None,
            *(next(gradients) if x.requires_grad else None for x in inputs),
        )


def _attend(query, key, value, options):
    """From `(B, N, T, D)`, `(B, K, S, D)` and `(B, K, S, E)`."""
    queries, keys = query.shape[2], key.shape[2]
    scale = options.scale
    if scale is None:
        scale = 1 / math.sqrt(query.shape[3])
    # The kernel wants one width.
    width, values = query.shape[3], value.shape[3]
    if width < values:
        query, key = (_widen_to(values, x) for x in (query, key))
    elif values < width:
        value = _widen_to(width, value)
    window, causal = options.window, options.causal
    if window is not None and window >= max(queries, keys):
        window = None
    # The one query is at the last key.
    causal = causal and queries > 1
    mask, bias = options.mask, options.bias
    if window is None and not causal:
        output = _call(query, key, value, mask, bias, scale)
    elif window is None and queries == keys and mask is None and bias is None:
        output = _kernel(query, key, value, scale, is_causal=True)
    elif window is not None and _is_by_key(mask) and bias is None:
        output = _attend_in_window(
            query, key, value, mask, window, causal, scale
        )
    else:
        output = _attend_in_pieces(
            query, key, value, mask, bias, window, causal, scale
        )
    return output[..., :values]


def _call(query, key, value, mask, bias, scale):
    """Attend with a mask and a bias that broadcast to the scores."""
    if mask is None:
        return _kernel(query, key, value, scale, attn_mask=bias)
    has_keys = mask.any(-1, keepdim=True)
    # Where there is no key, all are read and the result is replaced.
    readable = mask | ~has_keys
    if bias is not None:
        readable = torch.where(readable, bias, MASKED)
    output = _kernel(query, key, value, scale, attn_mask=readable)
    return torch.where(has_keys, output, 0)


def _kernel(query, key, value, scale, attn_mask=None, is_causal=False):
    if attn_mask is not None and attn_mask.shape[3] != key.shape[2]:
        attn_mask = attn_mask.expand(-1, -1, -1, key.shape[2])
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attn_mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _attend_in_window(query, key, value, mask, window, causal, scale):
    """Attend from chunks of queries to the keys in reach, in one call."""
    batch, heads, queries, width = query.shape
    keys, device = key.shape[2], query.device
    least, most = QUERIES_PER_CHUNK
    chunk = min(most, max(window, least), queries)
    count = -(-queries // chunk)
    before, after = window - 1, 0 if causal else window - 1
    read = before + chunk + after
    first = keys - queries - before
    padding = -first, first + (count - 1) * chunk + read - keys

    def by_reach(x):
        """`(b, h, S, ...)` to `(b, n, h, P, ...)`."""
        widths = (0, 0) * (x.dim() - 3)
        x = functional.pad(x, (*widths, *padding)).unfold(2, read, chunk)
        return x.movedim(2, 1).movedim(-1, 3)

    exists = torch.ones((1, 1, keys), dtype=torch.bool, device=device)
    if mask is not None:
        exists = exists & mask[:, :, 0]
    exists = by_reach(exists)[:, :, :, None]  # [b, n, h, 1, P]
    near = position_mask(
        torch.arange(chunk, dtype=torch.int32, device=device) + before,
        torch.arange(read, dtype=torch.int32, device=device),
        causal,
        window,
    )  # [C, P]
    near = (exists & near).expand(batch, *[-1] * 4).flatten(0, 1)
    filled = functional.pad(query, (0, 0, 0, count * chunk - queries))
    split = filled.unflatten(2, (count, chunk)).transpose(1, 2).flatten(0, 1)
    output = _call(
        split,  # [B * n, N, C, D]
        by_reach(key).flatten(0, 1),  # [B * n, K, P, D]
        by_reach(value).flatten(0, 1),
        near,
        None,
        scale,
    )
    output = output.unflatten(0, (batch, count)).transpose(1, 2)
    return output.flatten(2, 3)[:, :, :queries]


def _attend_in_pieces(query, key, value, mask, bias, window, causal, scale):
    """Attend from pieces of the queries, each to the keys that it reaches."""
    queries, keys = query.shape[2], key.shape[2]
    shift, outputs = keys - queries, []
    size = max(-(-queries // PIECES), QUERIES_PER_PIECE)
    for start in range(0, queries, size):
        end = min(start + size, queries)
        # The positions of the first query, and after the last one.
        low, high = start + shift, end + shift
        if window is not None:
            low, high = low - window + 1, high if causal else high + window - 1
        first = 0 if window is None else min(max(low, 0), keys)
        last = max(min(high, keys), 0)
        piece = query[:, :, start:end]
        if first >= last:
            outputs.append(piece.new_zeros((*piece.shape[:3], value.shape[3])))
            continue

        def cut(x, first=first, last=last, start=start, end=end):
            if x is None:
                return None
            x = x if x.shape[2] == 1 else x[:, :, start:end]
            return x if x.shape[3] == 1 else x[..., first:last]

        by_position = position_mask(
            torch.arange(start, end, dtype=torch.int32, device=query.device)
            + shift,
            torch.arange(first, last, dtype=torch.int32, device=query.device),
            causal,
            window,
        )
        outputs.append(
            _call(
                piece,
                key[:, :, first:last],
                value[:, :, first:last],
                combine_masks(cut(mask), by_position[None, None]),
                cut(bias),
                scale,
            )
        )
    return torch.cat(outputs, 2)


def _is_by_key(mask):
    return mask is None or mask.shape[2] == 1


def _widen_to(width, x):
    return functional.pad(x, (0, width - x.shape[3]))
