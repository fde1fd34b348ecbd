"""Attention on JAX, torch or TensorFlow, against Keras and the bare kernel.

`KERAS_BACKEND` says which. On a GPU, `make benchmark-gpu` runs it in bfloat16
as well. Every case is first compared with Keras', the gradients included.
"""

import itertools
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness import steps
from benchmarks.harness.goals import Goal
from benchmarks.harness.memory import peak_memory
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave

TITLE = f"Attention on {steps.backend()}, {steps.device()}"
HEADS, WIDTH, GROUPS, WINDOW = 8, 512, 2, 256
PASSES = ("forward", "forward+backward")
# Options of a case: causal, padded, heads of keys, window.
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "causal": {"causal": True},
    "padded": {"padded": True},
    "causal, padded": {"causal": True, "padded": True},
    "grouped": {"kv_heads": GROUPS},
    "causal, grouped": {"causal": True, "kv_heads": GROUPS},
    "window": {"causal": True, "window": WINDOW},
}
MOST = {"torch": 1.0, "jax": 0.9, "tensorflow": 1.0}[steps.backend()]
GOALS = tuple(
    Goal(
        f"{direction}, every kind",
        "ours ÷ Keras",
        MOST,
        rows={"pass": direction},
    )
    for direction in PASSES
) + (Goal("relative to the bare kernel", "ours ÷ kernel", 1.05),)
# Absolute and relative, on the scale of the largest value.
TOLERANCES = {"float32": 2e-3, "bfloat16": 6e-2}


def run(quick: bool = False) -> list[Table]:
    is_gpu = steps.device() == "gpu"
    lengths = (128,) if quick else (1024, 2048, 4096)
    if is_gpu and not quick:
        lengths = (*lengths, 16384)
    dtypes = ("float32", "bfloat16") if is_gpu or quick else ("float32",)
    tokens = 256 if quick else 65536 if is_gpu else 2048
    return [
        times(lengths, dtypes, tokens, 2 if quick else 15 if is_gpu else 5),
        *([] if quick else [peaks(lengths[-2:], dtypes)]),
    ]


def times(lengths, dtypes, tokens, rounds) -> Table:
    table = Table(
        ["batch, length", "kind", "dtype", "pass", "path", "ours, ms"]
        + ["ours ÷ Keras", "ours ÷ kernel"],
        f"Self-attention, width {WIDTH}, {HEADS} heads, against Keras' layer "
        f"and against the backend's own operation between the same projections "
        f"(grouped: {GROUPS} heads of keys; padded: a quarter of a row; "
        f"window: the last {WINDOW} tokens, a mask to Keras).",
    )
    cases = list(itertools.product(lengths, KINDS, dtypes, PASSES))
    for length, kind, dtype, direction in tqdm(cases, TITLE, leave=False):
        batch = max(1, tokens // length)
        runs, path = make(
            batch, length, dtype, direction == PASSES[1], **KINDS[kind]
        )
        check(runs, f"{kind} attention of {length} tokens", TOLERANCES[dtype])
        timings = interleave(runs, rounds)
        table.add(
            *(f"{batch}, {length:,}", kind, dtype, direction, path),
            f"{timings.milliseconds('ours').median:.2f}",
            *(
                timings.ratio("ours", name) if name in runs else "–"
                for name in ("Keras", "kernel")
            ),
        )
    return table


def peaks(lengths, dtypes) -> Table:
    table = Table(
        ["length", "kind", "dtype", "ours, MiB", "Keras, MiB", "kernel, MiB"],
        "Peak memory of a training step over its inputs, batch 1, a fresh "
        "process for each.",
    )
    for length, kind, dtype in itertools.product(lengths, KINDS, dtypes):
        cells = []
        for name in ("ours", "Keras", "kernel"):
            if name == "kernel" and not has_kernel(**KINDS[kind]):
                cells.append("–")
                continue
            found = peak_memory(
                "benchmarks.subjects.backend_attention:train",
                name=name,
                length=length,
                dtype=dtype,
                kind=kind,
            )
            cells.append(f"{found / 2**20:,.0f}")
        table.add(f"{length:,}", kind, dtype, *cells)
    return table


def train(name: str, length: int, dtype: str, kind: str):
    """One training step, for `benchmarks.harness.memory`."""
    runs, _ = make(1, length, dtype, True, only=name, **KINDS[kind])
    return runs[name]


def make(
    batch,
    length,
    dtype,
    backward,
    causal=False,
    padded=False,
    kv_heads=None,
    window=None,
    only=None,
):
    """The cases by name, and the path that ours takes."""
    keras.config.set_dtype_policy(
        "mixed_bfloat16" if dtype == "bfloat16" else "float32"
    )
    generator = np.random.default_rng(0)
    shape = (batch, length, WIDTH)
    x, upstream = (
        steps.to_tensor(generator.normal(size=shape), dtype) for _ in range(2)
    )
    mask = None
    if padded:
        lengths = np.full((batch, 1), length - length // 4)
        mask = ops.convert_to_tensor(np.arange(length) < lengths)
    ours = ka.MultiHeadAttention(
        HEADS, num_kv_heads=kv_heads, causal=causal, window=window
    )
    width = WIDTH // HEADS
    theirs = (
        keras.layers.MultiHeadAttention(HEADS, width)
        if kv_heads is None
        else keras.layers.GroupQueryAttention(width, HEADS, kv_heads)
    )
    ours.build(shape)
    theirs.build(shape, shape)
    ours.set_weights(theirs.get_weights())
    # What a padded query gives is anything: it is left out of all outputs.
    keep = None if mask is None else mask[..., None]

    def finish(y):
        return y if keep is None else ops.where(keep, y, 0)

    def call_ours(x):
        return finish(ours(x, mask=mask))

    def call_keras(x):
        seen = None if mask is None else mask[:, None, :]
        if window is not None:
            place = ops.arange(length)
            near = place[:, None] - place < window
            seen = near[None] if seen is None else seen & near
        return finish(theirs(x, x, attention_mask=seen, use_causal_mask=causal))

    def call_kernel(x):
        return finish(
            bare(x, ours.weights, causal, mask, kv_heads or HEADS, dtype)
        )

    calls = {"ours": (call_ours, ours), "Keras": (call_keras, theirs)}
    if has_kernel(causal, padded, kv_heads, window):
        calls["kernel"] = (call_kernel, ours)
    runs = {
        name: steps.step(
            call, layer.trainable_variables, [x], backward, upstream
        )
        for name, (call, layer) in calls.items()
        if only in (None, name)
    }
    heads = ops.ones((batch, length, HEADS, width), dtype)
    keys = ops.ones((batch, length, kv_heads or HEADS, width), dtype)
    explained = ka.ops.explain_attention(
        heads,
        keys,
        keys,
        causal=causal,
        window=window,
        mask=None if mask is None else mask[:, None, None],
    )
    return runs, explained.path


def has_kernel(causal=False, padded=False, kv_heads=None, window=None):
    """Whether the backend's own operation does the same without a square."""
    if window is not None or (causal and padded):
        return False
    return steps.backend() in ("torch", "jax")


def bare(x, weights, causal, mask, kv_heads, dtype):
    """The backend's operation between the projections."""
    *weights, output_kernel, output_bias = (
        ops.cast(weight.value, dtype) for weight in weights
    )
    batch, length, _ = x.shape

    def project(kernel, bias):
        _, heads, width = kernel.shape
        y = ops.matmul(x, ops.reshape(kernel, (WIDTH, heads * width)))
        return ops.reshape(y, (batch, length, heads, width)) + bias

    query, key, value = (
        project(*weights[first : first + 2]) for first in (0, 2, 4)
    )
    seen = None if mask is None else mask[:, None, None]
    if steps.backend() == "torch":
        import torch

        output = torch.nn.functional.scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in (query, key, value)),
            attn_mask=seen,
            is_causal=causal,
            enable_gqa=kv_heads != HEADS,
        ).transpose(1, 2)
    else:
        import jax

        fused = steps.device() == "gpu" and dtype == "bfloat16"
        lengths = None
        if mask is not None and fused:
            lengths, seen = mask.sum(1).astype("int32"), None
        output = jax.nn.dot_product_attention(
            query,
            key,
            value,
            mask=seen,
            is_causal=causal,
            key_value_seq_lengths=lengths,
            implementation="cudnn" if fused else "xla",
        )
    joined = ops.reshape(output, (batch, length, WIDTH))
    output_kernel = ops.reshape(output_kernel, (WIDTH, WIDTH))
    return ops.matmul(joined, output_kernel) + output_bias


def check(runs, name, tolerance):
    """Stop if two cases do not give one result."""
    found = {
        case: [
            ops.convert_to_numpy(ops.cast(tensor, "float32"))
            for tensor in run()
        ]
        for case, run in runs.items()
    }
    scale = max(abs(each).max() for each in found["ours"]) / 100
    for case, tensors in found.items():
        for one, other in zip(found["ours"], tensors, strict=True):
            largest = max(abs(one).max(), scale)
            error = abs(one - other).max() / largest
            if not error < tolerance:
                raise RuntimeError(
                    f"{name}: ours differs from {case} by {error:.1e} of the "
                    "largest value"
                )
