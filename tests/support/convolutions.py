"""What the tests of the convolutions over time share."""

import numpy as np

from support.arrays import numpy


def sequence(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def softmax(logits, inside=None):
    if inside is None:
        inside = np.ones(logits.shape, bool)
    if not inside.any():
        return np.zeros(logits.shape)
    e = np.where(inside, np.exp(logits - logits[inside].max()), 0)
    return e / e.sum()


def convolve(x, logits, causal=False, mask=None, renormalize=False):
    """Equation 1 of arXiv:1901.10430, one position and head at a time.

    Logits are `(H, K)`, or `(B, T, H, K)` for filters of each position.
    """
    x = x.astype("float64")
    heads, taps = logits.shape[-2:]
    left = taps - 1 if causal else (taps - 1) // 2
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    size = x.shape[2] // heads
    y = np.zeros(x.shape)
    for b, t, h in np.ndindex(*x.shape[:2], heads):
        row = logits[h] if logits.ndim == 2 else logits[b, t, h]
        at = t + np.arange(taps) - left
        inside = (at >= 0) & (at < x.shape[1])
        inside[inside] = mask[b, at[inside]]
        weights = softmax(row, inside) if renormalize else softmax(row)
        head = slice(h * size, (h + 1) * size)
        for j in np.flatnonzero(inside):
            y[b, t, head] += weights[j] * x[b, at[j], head]
    return y


def randomize(layer, seed=1):
    generator = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        value = generator.normal(size=variable.shape)
        variable.assign(value.astype("float32"))
    return layer


def decode(layer, x, steps, mask=None):
    """Outputs of a layer that is given some positions at a time."""
    cache = layer.initial_cache(len(x))
    outputs, start = [], 0
    for step in steps:
        part = slice(start, start + step)
        y, cache = layer(
            x[:, part],
            mask=None if mask is None else mask[:, part],
            cache=cache,
        )
        outputs.append(numpy(y))
        start += step
    assert start == x.shape[1]
    return np.concatenate(outputs, axis=1)


def decode_after_prompts(layer, x, lengths, tokens):
    """Prompts padded on the left, then the rest of each row's `tokens`.

    Row b's sequence is the first `lengths[b]` and then the next tokens of
    `x[b]`. Returns the outputs as one row of `lengths[b] + tokens` each.
    """
    longest = max(lengths)
    mask = np.arange(longest) >= longest - np.array(lengths)[:, None]
    prompts = np.full((len(x), longest, x.shape[2]), np.nan, "float32")
    for row, n in enumerate(lengths):
        prompts[row, longest - n :] = x[row, :n]
    cache = layer.initial_cache(len(x))
    y, cache = layer(prompts, mask=mask, cache=cache)
    rows = [list(numpy(y)[b, longest - n :]) for b, n in enumerate(lengths)]
    for step in range(tokens):
        token = np.stack([x[b, n + step] for b, n in enumerate(lengths)])
        y, cache = layer(token[:, None], cache=cache)
        for b in range(len(x)):
            rows[b].append(numpy(y)[b, 0])
    return [np.stack(row) for row in rows]
