"""Multi-head attention by torch's fused kernel. For a process of its own."""

import os

import torch
from torch.nn import functional


def attend(x, kernel, bias, output_kernel, output_bias, heads, causal):
    """Self-attention with our weights, whose heads of keys may be fewer."""
    batch, length, _ = x.shape
    width = output_kernel.shape[0] // heads
    kv_heads = (kernel.shape[1] // width - heads) // 2
    split = (x @ kernel + bias).view(batch, length, -1, width)
    query, key, value = (
        part.transpose(1, 2)
        for part in split.split([heads, kv_heads, kv_heads], dim=2)
    )
    y = functional.scaled_dot_product_attention(
        query, key, value, is_causal=causal, enable_gqa=kv_heads != heads
    )
    y = y.transpose(1, 2).reshape(batch, length, -1)
    return y @ output_kernel + output_bias


def case(x, weights, heads, causal, upstream=None):
    """One pass of self-attention. With `upstream` gradients are given too.

    Args:
        x: `(batch, length, channels)`.
        weights: ours.
        heads: number of heads.
        causal: whether a token sees only those before it.
        upstream: gradient of the output.
    """
    torch.set_num_threads(os.cpu_count())
    x, weights = torch.tensor(x), [torch.tensor(w) for w in weights]
    if upstream is None:

        def forward():
            with torch.no_grad():
                return [attend(x, *weights, heads, causal)]

        return forward
    upstream, sources = torch.tensor(upstream), [x, *weights]
    for source in sources:
        source.requires_grad_()

    def step():
        y = attend(x, *weights, heads, causal)
        return [y.detach(), *torch.autograd.grad(y, sources, upstream)]

    return step


def train(length, width, heads, causal, kv_heads=None):
    """One forward and backward pass, for `benchmarks.harness.memory`."""
    columns = width + 2 * (kv_heads or heads) * (width // heads)
    shapes = [(width, columns), (columns,), (width, width), (width,)]
    x, upstream, *weights = (
        (torch.randn(shape) / 16).numpy()
        for shape in [(1, length, width)] * 2 + shapes
    )
    return case(x, weights, heads, causal, upstream)
