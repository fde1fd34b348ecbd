"""Multi-head attention compared with Keras' layers and torch's, by length.

Every case is first compared with theirs, the gradients included.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness.cases import MODES
from benchmarks.harness.cases import PASSES
from benchmarks.harness.cases import check_equal
from benchmarks.harness.cases import compiled
from benchmarks.harness.cases import draw
from benchmarks.harness.goals import Goal
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave
from benchmarks.harness.worker import Worker

TITLE = "Attention"
HEADS, WIDTH = 8, 512
KINDS = {"full": False, "causal": True}
GROUPS = 2
PEERS = {None: "MultiHeadAttention", GROUPS: "GroupQueryAttention"}
RATIO = "ours ÷ Keras"
NAMES = ("ours", "Keras", "torch")
LENGTH = "batch, length"
SHORT = ("16, 128", "8, 256", "4, 512")
GOALS = (
    Goal("up to 512 tokens", RATIO, 1, rows={LENGTH: SHORT}),
    Goal("512 tokens", RATIO, 0.95, rows={LENGTH: SHORT[-1]}),
    Goal("512 tokens, grouped", RATIO, 1, table=1),
    *(
        Goal(
            f"4,096 tokens, {kind}, {mode}",
            RATIO,
            limit,
            rows={LENGTH: "1, 4,096", "kind": kind, "mode": mode},
        )
        for kind, mode, limit in (
            ("full", "graph", 1.05),
            ("causal", "graph", 0.7),
            ("full", "XLA", 0.67),
            ("causal", "XLA", 0.67),
        )
    ),
)
NOTE = (
    "All rows count, so a goal is missed if one pass misses it. Up to 512 "
    "tokens the products are nearly all of the time, and both are equal but "
    "for noise: the same row was 1.01 and 1.10 in two runs of one day. Three "
    "projections instead of one, and products with a transposed factor instead "
    "of a transposed key (both tried) change nothing beyond it. From 2,048 "
    "tokens on, the scores are computed twice, which is the price of the "
    "memory, and chunks of 512 queries are a trade: with 1,024 at 4,096 "
    "tokens, full, forward and backward in the graph took 0.84 of Keras' time "
    "in a trial, and the scores twice the memory. A gradient that takes the "
    "softmax's sums from the output, and passes over the scores once instead "
    "of three times (tried), gains 2 %: the products take the time."
)


def run(quick: bool = False) -> list[Table]:
    tokens, lengths, kinds = 2048, (128, 256, 512, 1024, 2048, 4096), KINDS
    if quick:
        tokens, lengths, kinds = 512, (512,), ("full",)
    with Worker() as torch:
        tables = []
        for kv_heads, peer in PEERS.items():
            table = Table(
                [LENGTH, "kind", "mode", "pass"]
                + [f"{name}, ms" for name in NAMES]
                + [f"ours ÷ {name}" for name in NAMES[1:]],
                f"Peer: `keras.layers.{peer}`. Self-attention, width {WIDTH}, "
                f"{HEADS} heads{f', {kv_heads} of keys' if kv_heads else ''}, "
                f"float32, at least {tokens:,} tokens a batch. torch's is its "
                "fused operation between the same projections.",
            )
            cases = [
                (max(1, tokens // length), length, kind, mode, direction)
                for length in lengths
                for kind in kinds
                for mode in MODES
                for direction in PASSES
                if kv_heads is None or (length, kind) == (512, "full")
            ]
            for batch, length, kind, mode, direction in tqdm(
                cases, peer, leave=False
            ):
                timings = compare(
                    *(batch, length, KINDS[kind], MODES[mode]),
                    direction == PASSES[1],
                    3 if quick else 7 if length <= 1024 else 4,
                    kv_heads,
                    None if MODES[mode] else torch,
                )
                timed = timings.seconds
                table.add(
                    *(f"{batch}, {length:,}", kind, mode, direction),
                    *(
                        f"{timings.milliseconds(name).median:.1f}"
                        if name in timed
                        else "–"
                        for name in NAMES
                    ),
                    *(
                        timings.ratio("ours", name) if name in timed else "–"
                        for name in NAMES[1:]
                    ),
                )
            tables.append(table)
    return tables


def compare(batch, length, causal, jit, backward, rounds, kv_heads, torch):
    """Compare the times of ours, Keras' and torch's, if they do the same.

    `torch` is a worker, or `None` where only ours and Keras' are compiled.
    """
    x, upstream = draw(batch, length, WIDTH), draw(batch, length, WIDTH)
    ours = our_layer(causal, kv_heads)
    theirs, call = keras_layer(causal, kv_heads)
    ours.build(x.shape)
    theirs.build(x.shape, x.shape)
    ours.set_weights(theirs.get_weights())
    cases = {
        "ours": compiled(
            ours, ours.weights, [x], backward, jit, upstream=upstream
        ),
        "Keras": compiled(
            call, theirs.weights, [x], backward, jit, upstream=upstream
        ),
    }
    found, expected = cases["ours"](), cases["Keras"]()
    check_equal(expected, found, f"attention of {length} tokens")
    if torch is not None:
        cases["torch"] = torch
        given = torch.load(
            "benchmarks.peers.torch_attention:case",
            x=x.numpy(),
            weights=[weight.numpy() for weight in in_torch_form(ours.weights)],
            heads=HEADS,
            causal=causal,
            upstream=upstream.numpy() if backward else None,
        )
        if backward:
            found = (*found[:2], *in_torch_form(found[2:]))
        check_equal(found, given, f"torch's attention of {length} tokens")
    return interleave(cases, rounds)


def our_layer(
    causal: bool, kv_heads: int | None = None, window: int | None = None
) -> ka.MultiHeadAttention:
    return ka.MultiHeadAttention(
        HEADS, num_kv_heads=kv_heads, causal=causal, window=window
    )


def keras_layer(
    causal: bool, kv_heads: int | None = None
) -> tuple[keras.layers.Layer, Callable[[Any], Any]]:
    """Keras' layer, and it as a function of one tensor."""
    width = WIDTH // HEADS
    if kv_heads is None:
        layer = keras.layers.MultiHeadAttention(HEADS, width)
    else:
        layer = keras.layers.GroupQueryAttention(width, HEADS, kv_heads)
    return layer, lambda x: layer(x, x, use_causal_mask=causal)


def in_torch_form(tensors: list) -> list[tf.Tensor]:
    """Weights or gradients with one kernel for queries, keys and values.

    Keras and ours have a kernel and a bias each for them, and the output.
    """
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    kernels = [tf.reshape(kernel, (WIDTH, -1)) for kernel in tensors[0:6:2]]
    biases = [tf.reshape(bias, (-1,)) for bias in tensors[1:6:2]]
    return [
        tf.concat(kernels, 1),
        tf.concat(biases, 0),
        tf.reshape(tensors[6], (-1, WIDTH)),
        tensors[7],
    ]
