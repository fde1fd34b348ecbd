"""What goes wrong in attention layers, tried on Keras' and on ours.

Each check runs on the installed versions and says what it saw. Nothing is
timed.
"""

import warnings
from collections.abc import Callable

import keras
import numpy as np

import keras_attention as ka
from benchmarks.harness.report import Table

TITLE = "Faults of attention layers"
B, T, S, N, D = 2, 5, 7, 2, 6


def make(ours: bool, **arguments):
    if ours:
        return ka.MultiHeadAttention(N, key_dim=3, **arguments)
    return keras.layers.MultiHeadAttention(N, key_dim=3, **arguments)


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def masked_row(ours):
    """Scores asked for or not, a row without keys gives the output bias."""
    layer, x = make(ours), draw(B, T, D)
    mask = np.ones((B, T, T), bool)
    mask[0, 2] = False
    plain = layer(x, x, attention_mask=mask)
    scored, _ = layer(x, x, attention_mask=mask, return_attention_scores=True)
    rows = [np.abs(y[0, 2]).max() for y in (plain, scored)]
    return max(rows) == 0, f"row without keys: {rows[0]:.3f}, {rows[1]:.3f}"


def float_mask(ours):
    """A mask of 0 and -1e9 is refused or added, never inverted."""
    layer, x = make(ours), draw(1, T, D)
    allowed = np.tri(T, dtype=bool)[None]
    expected = layer(x, x, attention_mask=allowed)
    additive = np.where(allowed, 0, -1e9).astype("float32")
    try:
        found = layer(x, x, attention_mask=additive)
    except (TypeError, ValueError):
        return True, "refused, with what to do"
    error = np.abs(found - expected).max()
    return error < 1e-5, f"off by {error:.2f}"


def head_mask_and_padding(ours):
    """A mask per head and a padding mask at once."""
    layer, x = make(ours), draw(B, T, D)
    heads = np.random.default_rng(1).random((B, N, T, T)) < 0.7
    padding = np.ones((B, T), bool)
    padding[0, 3:] = False
    expected = layer(x, x, attention_mask=heads & padding[:, None, None])
    try:
        found = layer(x, x, attention_mask=heads, key_mask=padding)
    except Exception as error:
        return False, f"{type(error).__name__}"
    error = np.abs(found - expected).max()
    return error < 1e-5, f"off by {error:.2f}"


def causal_alignment(ours):
    """The last query attends to every key when there are more keys."""
    x, y = draw(1, 1, D), draw(1, S, D)
    layer = make(ours, causal=True) if ours else make(ours)
    options = {} if ours else {"use_causal_mask": True}
    before = layer(x, y, **options)
    y[0, -1] += 1
    change = np.abs(layer(x, y, **options) - before).max()
    return change > 1e-3, f"last key changes the last query by {change:.3f}"


def dropout_at_inference(ours):
    """Dropout changes nothing at inference."""
    x = draw(1, T, D)
    mask = np.ones((1, T, T), bool)
    mask[0, 2] = False
    plain, dropped = make(ours), make(ours, dropout=0.5)
    plain(x, x)
    dropped(x, x)
    dropped.set_weights(plain.get_weights())
    error = np.abs(
        dropped(x, x, attention_mask=mask) - plain(x, x, attention_mask=mask)
    ).max()
    return error < 1e-6, f"differs by {error:.3f}"


def symbolic_scores(ours):
    """The shape of the scores is (B, N, T, S) before anything runs."""
    query, value = keras.KerasTensor((B, T, D)), keras.KerasTensor((B, S, D))
    _, scores = make(ours)(query, value, return_attention_scores=True)
    return tuple(scores.shape) == (B, N, T, S), f"{tuple(scores.shape)}"


def config(ours):
    """The configuration is the same before and after the first call."""
    layer = make(ours)
    before = layer.get_config()
    layer(draw(1, T, D), draw(1, S, D))
    changed = [k for k, v in layer.get_config().items() if before.get(k) != v]
    return not changed, f"changes: {', '.join(changed) or 'none'}"


def float16(ours):
    """Large queries and keys overflow float16 only if scaled too late."""
    layer = make(ours, dtype="float16")
    x = np.full((1, T, D), 200.0, "float16")
    layer(x, x)
    layer.set_weights([np.full(w.shape, 0.5) for w in layer.get_weights()])
    finite = bool(np.isfinite(layer(x, x)).all())
    return finite, "finite" if finite else "NaN"


def one_key_head(ours):
    """Queries of several heads that share one head of keys and values."""
    x = draw(1, T, D)
    if ours:
        layer = make(ours, num_kv_heads=1)
    else:
        layer = keras.layers.GroupQueryAttention(3, N, 1)
    layer(x, x)
    query, key = draw(1, T, N, 3), draw(1, S, 1, 3)
    try:
        if ours:
            from keras_attention.ops.attention.scaled_dot_product import (
                scaled_dot_product_attention,
            )

            scaled_dot_product_attention(query, key, key)
        else:
            keras.ops.dot_product_attention(query, key, key)
    except Exception as error:
        return False, f"{type(error).__name__} in the operation"
    return True, "works"


def sequential(ours):
    """`model.add` takes the layer."""
    try:
        keras.Sequential([make(ours)])(draw(1, T, D))
    except Exception as error:
        return False, type(error).__name__
    return True, "works"


CHECKS: list[Callable] = [
    masked_row,
    float_mask,
    head_mask_and_padding,
    causal_alignment,
    dropout_at_inference,
    symbolic_scores,
    config,
    one_key_head,
    float16,
    sequential,
]


def run(quick: bool = False) -> list[Table]:
    keras_name = f"keras.layers {keras.__version__}"
    table = Table(
        ["what must hold", keras_name, "keras_attention"],
        "Memory is in the section on attention.",
    )
    for check in CHECKS:
        cells = []
        for ours in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                holds, seen = check(ours)
            cells.append(f"{'yes' if holds else '**no**'}: {seen}")
        table.add(check.__doc__.rstrip("."), *cells)
    return [table]
