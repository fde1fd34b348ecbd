"""Layers with a matrix state: the papers' formulas, decoding, masks."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.networks import first_of

LAYERS = {
    "linear": lambda **kwargs: ka.LinearAttention(2, causal=True, **kwargs),
    "retention": lambda **kwargs: ka.Retention(2, **kwargs),
    "gated": lambda **kwargs: ka.GatedLinearAttention(2, **kwargs),
    "delta": lambda **kwargs: ka.GatedDeltaNet(2, **kwargs),
}
layers = pytest.mark.parametrize("name", LAYERS)
WIDTH = 8


def make(name, **arguments):
    layer = LAYERS[name](name="layer", **arguments)
    layer.build((None, None, WIDTH))
    generator = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        value = generator.normal(size=variable.shape) / 2
        variable.assign(value.astype("float32"))
    return layer


def tokens(batch, length, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(batch, length, WIDTH)).astype("float32")


# The papers' formulas, token by token, in float64.


def weights_of(layer):
    return {
        weight.path.rpartition("layer/")[2]: numpy(weight)
        for weight in layer.weights
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def normalized(x, epsilon):
    return x / np.sqrt(np.mean(x**2) + epsilon)


def linear_head(w, x, h, layer):
    def part(name, t):
        y = x[t] @ w[f"{name}/kernel"] + w[f"{name}/bias"]
        return np.split(y, 2)[h]

    def phi(x):
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))

    for t in range(len(x)):
        keys = [phi(part("key", s)) for s in range(t + 1)]
        scores = np.array([phi(part("query", t)) @ key for key in keys])
        values = np.array([part("value", s) for s in range(t + 1)])
        yield scores @ values / scores.sum()


def retention_head(w, x, h, layer):
    width = w["query/kernel"].shape[1] // 2
    pairs = width // 2
    frequencies = 1 / 10_000 ** np.linspace(0, 1, pairs)

    def part(name, t):
        return np.split(x[t] @ w[f"{name}/kernel"], 2)[h]

    def rotated(name, t):
        # Pairs of neighbors as complex numbers.
        y = part(name, t)
        return (y[0::2] + 1j * y[1::2]) * np.exp(1j * t * frequencies)

    decay = 1 - 2.0 ** (-5 - h)
    for t in range(len(x)):
        head = sum(
            decay ** (t - s)
            * (rotated("query", t) @ rotated("key", s).conj()).real
            * part("value", s)
            for s in range(t + 1)
        )
        gate = swish(part("gate", t))
        yield gate * normalized(head / np.sqrt(width), 1e-6)


def gated_head(w, x, h, layer):
    def part(name, t):
        return np.split(x[t] @ w[f"{name}/kernel"], 2)[h]

    state = 0
    for t in range(len(x)):
        logits = x[t] @ w["decay_down/kernel"] @ w["decay_up/kernel"]
        logits = np.split(logits + w["decay_up/bias"], 2)[h]
        alpha = sigmoid(logits) ** (1 / 16)
        key, query = part("key", t), part("query", t)
        state = alpha[:, None] * state + np.outer(key, part("value", t))
        head = query @ state / np.sqrt(len(key))
        head = normalized(head, 1e-5) * w["head_scale"]
        yield swish(part("gate", t)) * head


def delta_head(w, x, h, layer):
    names = ("query", "key", "value")
    projected = [x @ w[f"{name}/kernel"] for name in names]
    projected = np.concatenate(projected, axis=1)
    taps = w["convolution"].shape[1]
    padded = np.pad(projected, ((taps - 1, 0), (0, 0)))
    state = 0
    for t in range(len(x)):
        mixed = swish((padded[t : t + taps].T * w["convolution"]).sum(1))
        query, key, value = (
            np.split(part, 2)[h] for part in np.split(mixed, [WIDTH, 2 * WIDTH])
        )
        query, key = (y / np.sqrt(y @ y + 1e-6) for y in (query, key))
        beta = sigmoid(x[t] @ w["beta/kernel"])[h]
        step = np.log1p(np.exp(x[t] @ w["decay/kernel"] + w["step_bias"]))[h]
        alpha = np.exp(-np.exp(w["log_rate"][h]) * step)
        forgotten = np.eye(len(key)) - beta * np.outer(key, key)
        state = alpha * forgotten @ (state + np.zeros((len(key), len(value))))
        state = state + beta * np.outer(key, value)
        head = query @ state / np.sqrt(len(key))
        gate = np.split(x[t] @ w["gate/kernel"], 2)[h]
        yield swish(gate) * normalized(head, 1e-5) * w["head_scale"]


HEADS = {
    "linear": linear_head,
    "retention": retention_head,
    "gated": gated_head,
    "delta": delta_head,
}


@layers
def test_equals_the_formula(name):
    layer, x = make(name), tokens(2, 9)
    w = weights_of(layer)
    expected = []
    for row in x.astype("float64"):
        heads = [list(HEADS[name](w, row, h, layer)) for h in range(2)]
        y = np.concatenate(heads, axis=-1) @ w["output/kernel"]
        expected.append(y + w.get("output/bias", 0))
    np.testing.assert_allclose(
        numpy(layer(x)), np.stack(expected), rtol=1e-3, atol=1e-5
    )


def test_numbers_of_parameters():
    """At width 64: 4, 8, 3.5 and 8 D², and the small ones."""
    counts = []
    for layer in (
        ka.LinearAttention(4),
        ka.Retention(4),
        ka.GatedLinearAttention(4),
        ka.GatedDeltaNet(4),
    ):
        layer.build((None, None, 64))
        counts.append(layer.count_params())
    square = 64 * 64
    assert counts == [
        4 * square + 4 * 64,
        8 * square,
        4 * square + 16 * (64 + 32) + 32 + 16,
        8 * square + 2 * 64 * 4 + 4 * 64 * 4 + 2 * 4 + 32,
    ]


# Decoding.


def decode(layer, x, pieces, mask=None):
    cache, outputs, start = layer.initial_cache(len(x)), [], 0
    for length in pieces:
        piece = slice(start, start + length)
        given = None if mask is None else mask[:, piece]
        y, cache = layer(x[:, piece], mask=given, cache=cache)
        outputs.append(numpy(y))
        start += length
    return np.concatenate(outputs, axis=1), cache


@layers
@pytest.mark.parametrize("pieces", [[1] * 7, [7], [4, 1, 2]], ids=str)
def test_decoding_equals_the_full_pass(name, pieces):
    layer, x = make(name), tokens(2, 7)
    found, _ = decode(layer, x, pieces)
    np.testing.assert_allclose(found, numpy(layer(x)), rtol=1e-4, atol=1e-5)


GAPS = {
    "middle": [[1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 1, 1]],
    "left": [[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 0, 0, 1, 1, 0], [1, 1, 1, 0, 1, 0, 0]],
}


@layers
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("pieces", first_of([[1] * 7, [2, 5], [7]], 2), ids=str)
def test_masked_tokens_are_as_if_they_were_not_there(name, gap, pieces):
    layer, x = make(name), tokens(2, 7)
    mask = np.array(GAPS[gap], bool)
    noise = np.where(mask[..., None], x, np.nan).astype("float32")
    found, _ = decode(layer, noise, pieces, mask)
    whole = numpy(layer(noise, mask=mask))
    for row in range(2):
        alone = numpy(layer(x[row : row + 1, mask[row]]))[0]
        for y in (found, whole):
            np.testing.assert_allclose(
                y[row, mask[row]], alone, rtol=1e-4, atol=1e-5
            )
    assert np.isfinite(found).all()


@layers
def test_prompts_padded_on_the_right_go_on_as_without_padding(name):
    layer, x = make(name), tokens(2, 6)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)
    _, cache = layer(x[:, :4], mask=mask, cache=layer.initial_cache(2))
    y, _ = layer(x[:, 4:], cache=cache)
    alone = numpy(layer(x[:1, [0, 1, 2, 4, 5]]))[0, 3:]
    np.testing.assert_allclose(numpy(y)[0], alone, rtol=1e-4, atol=1e-5)
    whole = numpy(layer(x[1:]))[0, 4:]
    np.testing.assert_allclose(numpy(y)[1], whole, rtol=1e-4, atol=1e-5)


@layers
def test_mask_of_an_embedding_is_used(name):
    embedding = keras.layers.Embedding(9, WIDTH, mask_zero=True)
    layer = make(name)
    padded = embedding(np.array([[0, 0, 3, 4], [5, 6, 7, 8]]))
    _, cache = layer(padded, cache=layer.initial_cache(2))
    alone = embedding(np.array([[3, 4]]))
    _, expected = layer(alone, cache=layer.initial_cache(1))
    np.testing.assert_allclose(
        numpy(cache["state"])[:1],
        numpy(expected["state"]),
        rtol=1e-5,
        atol=1e-8,
    )


@layers
def test_half_precision_keeps_a_state_in_float32(name):
    layer = make(name, dtype="mixed_float16")
    cache = layer.initial_cache(1)
    x = tokens(1, 300)
    y, cache = layer(x, cache=cache)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert keras.backend.standardize_dtype(cache["state"].dtype) == "float32"
    expected = numpy(make(name)(x))
    error = np.abs(numpy(y) - expected).max() / np.abs(expected).max()
    assert error < 2e-2


@layers
def test_symbolic_cache(name):
    layer = make(name)
    cache = {
        key: keras.KerasTensor((None, *shape), dtype)
        for key, (shape, dtype) in layer.cache_shapes().items()
    }
    y, after = layer(keras.KerasTensor((None, None, WIDTH)), cache=cache)
    assert y.shape == (None, None, WIDTH)
    assert {k: x.shape for k, x in after.items()} == {
        k: x.shape for k, x in cache.items()
    }


def test_all_tokens_are_attended_to_without_causal():
    layer = ka.LinearAttention(2)
    x = tokens(2, 7)
    y = numpy(layer(x))
    backwards = numpy(layer(x[:, ::-1]))[:, ::-1]
    np.testing.assert_allclose(backwards, y, rtol=1e-4, atol=1e-5)


# Wrong arguments.


@pytest.mark.parametrize(
    "error, match, call",
    [
        (TypeError, "`num_heads`", lambda: ka.Retention(2.5)),
        (ValueError, "`key_dim`", lambda: ka.LinearAttention(2, 0)),
        (ValueError, "must be even", lambda: ka.Retention(2, 3)),
        (ValueError, "must be even", lambda: ka.Retention(8)(tokens(1, 2))),
        (ValueError, "multiple", lambda: ka.GatedDeltaNet(3)(tokens(1, 2))),
        (
            ValueError,
            "`gate_divisor`",
            lambda: ka.GatedLinearAttention(2, gate_divisor=0),
        ),
        (
            ValueError,
            "`kernel_size`",
            lambda: ka.GatedDeltaNet(2, kernel_size=0),
        ),
        (ValueError, "rank 3", lambda: ka.Retention(2)(tokens(1, 2)[0])),
        (ValueError, "not built", lambda: ka.Retention(2).initial_cache(2)),
        (
            ValueError,
            "causal=False",
            lambda: ka.LinearAttention(2).initial_cache(2),
        ),
        (
            ValueError,
            "another layer or batch",
            lambda: make("linear")(
                tokens(2, 3), cache=make("linear").initial_cache(3)
            ),
        ),
        (
            ValueError,
            "a dictionary of 'state', 'position'",
            lambda: make("retention")(
                tokens(2, 3), cache=make("linear").initial_cache(2)
            ),
        ),
        (
            ValueError,
            "`mask` must have the shape",
            lambda: make("gated")(tokens(2, 3), mask=np.ones((2, 4), bool)),
        ),
    ],
)
def test_wrong_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()
