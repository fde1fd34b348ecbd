"""Attention written from the papers, one query at a time, in float64."""

import math

import numpy as np


def draw(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def attention(
    query,
    key,
    value,
    mask=None,
    bias=None,
    causal=False,
    window=None,
    scale=None,
    logit_soft_cap=None,
    sinks=None,
):
    """Output (B, T, N, E) and scores (B, N, T, S) of arXiv:1706.03762.

    `mask` and `bias` broadcast to (B, N, T, S).
    """
    query, key, value = (x.astype("float64") for x in (query, key, value))
    batch, length, heads, width = query.shape
    keys, shared = key.shape[1:3]
    full = (batch, heads, length, keys)
    mask = np.broadcast_to(True if mask is None else mask, full)
    bias = np.broadcast_to(0.0 if bias is None else bias, full)
    scale = 1 / math.sqrt(width) if scale is None else scale
    scores = np.zeros(full)
    output = np.zeros((batch, length, heads, value.shape[-1]))
    for b, n, t in np.ndindex(batch, heads, length):
        head = n * shared // heads
        place = t + keys - length
        seen = [
            s
            for s in range(keys)
            if mask[b, n, t, s]
            and (not causal or s <= place)
            and (window is None or abs(s - place) < window)
        ]
        if not seen:
            continue
        logits = scale * key[b, seen, head] @ query[b, t, n]
        if logit_soft_cap is not None:
            logits = logit_soft_cap * np.tanh(logits / logit_soft_cap)
        logits = logits + bias[b, n, t, seen]
        largest = logits.max()
        weights = np.exp(logits - largest)
        sink = 0 if sinks is None else np.exp(sinks[n] - largest)
        weights /= weights.sum() + sink
        scores[b, n, t, seen] = weights
        output[b, t, n] = weights @ value[b, seen, head]
    return output, scores
