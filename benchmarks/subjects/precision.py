"""The layers in mixed bfloat16, compared with float32."""

import tensorflow as tf
from tqdm import tqdm

import keras_attention as ka
from benchmarks.harness.cases import MODES
from benchmarks.harness.cases import PASSES
from benchmarks.harness.cases import compiled
from benchmarks.harness.cases import draw
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave

TITLE = "bfloat16"
RATIO = "bfloat16 ÷ float32"
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
IMAGE, SEQUENCE = (32, 56, 56, 256), (4, 512, 512)
LAYERS = {
    "SqueezeExcite": (ka.SqueezeExcite, IMAGE),
    "EfficientChannelAttention": (ka.EfficientChannelAttention, IMAGE),
    "CBAM": (ka.CBAM, IMAGE),
    "MultiHeadAttention, 8 heads": (
        lambda **options: ka.MultiHeadAttention(8, **options),
        SEQUENCE,
    ),
    "LightweightConv1D, K 31": (
        lambda **options: ka.LightweightConv1D(8, 31, **options),
        SEQUENCE,
    ),
    "DynamicConv1D, K 31": (
        lambda **options: ka.DynamicConv1D(8, 31, **options),
        SEQUENCE,
    ),
}
# Of the Euclidean norm, for the output, the gradient to the input, and those to
# weights: bfloat16 has 8 bits. Where two values are nearly equal it takes the
# other one for their maximum, and a unit near zero passes or not; the weights
# of a few units sum few such values, and one of them moves a good part.
TOLERANCES = 0.02, 0.1, 0.5


def run(quick: bool = False) -> list[Table]:
    table = Table(
        ["layer", "input", "mode", "pass", "bfloat16, ms", RATIO],
        "Our layers with the policy `mixed_bfloat16`, compared with "
        "float32; a ratio below 1 is a gain. Weights are float32 in both.",
    )
    cases = [
        (name, mode, direction)
        for name in LAYERS
        for mode in MODES
        for direction in PASSES
        if (mode, direction) == ("graph", PASSES[1]) or not quick
    ]
    for name, mode, direction in tqdm(cases, "bfloat16", leave=False):
        make, shape = LAYERS[name]
        if quick:
            shape = (2, *[size // 8 for size in shape[1:-1]], 64)
        made = _cases(make, shape, direction == PASSES[1], MODES[mode])
        timings = interleave(made, 3 if quick else 7)
        table.add(
            *(name, shape, mode, direction),
            f"{timings.milliseconds('bfloat16').median:.1f}",
            timings.ratio("bfloat16", "float32"),
        )
    return [table]


def _cases(make, shape, backward, jit):
    """Both precisions of a layer with the same weights and input."""
    x, upstream = draw(*shape), draw(*shape)
    made, weights = {}, None
    for name, policy in POLICIES.items():
        layer = make(dtype=policy)
        layer.build(shape)
        weights = weights or [weight.numpy() for weight in layer.weights]
        layer.set_weights(weights)
        made[name] = compiled(
            layer,
            layer.trainable_variables,
            [tf.cast(x, name)],
            backward,
            jit,
            tf.cast(upstream, name),
        )
    results = (tf.nest.flatten(run()) for run in made.values())
    for number, (one, other) in enumerate(zip(*results, strict=True)):
        tolerance = TOLERANCES[min(number, 2)]
        error = float(tf.norm(one - tf.cast(other, "float32")))
        if error > tolerance * float(tf.norm(one)):
            raise RuntimeError(
                f"bfloat16: result {number} is off by "
                f"{error / tf.norm(one):.1e} of its norm"
            )
    return made
