"""Pooling by attention: hierarchical attention networks, Set Transformer."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import attention_layers
from keras_attention.inspection import read_outputs
from support.arrays import numpy
from support.vision import build

LAYERS = {
    "additive": lambda **kwargs: ka.AttentionPooling1D(**kwargs),
    "multihead": lambda **kwargs: ka.PoolingByMultiheadAttention(2, **kwargs),
}
layers = pytest.mark.parametrize("name", LAYERS)


def draw(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def weights_of(layer):
    return {
        weight.path.rpartition(f"{layer.name}/")[2]: numpy(weight)
        for weight in layer.weights
    }


def test_hierarchical_attention():
    layer, x = ka.AttentionPooling1D(units=5, name="pool"), draw(2, 7, 6)
    build(layer, x.shape)
    w = weights_of(layer)
    u = np.tanh(x @ w["projection/kernel"] + w["projection/bias"])
    mask = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 0, 0]], bool)
    logits = u @ w["query"]
    for given in (None, mask):
        seen = logits if given is None else np.where(given, logits, -np.inf)
        expected = softmax(seen)
        noise = x if given is None else np.where(given[..., None], x, np.nan)
        y, scores = layer(noise, mask=given, return_attention_scores=True)
        np.testing.assert_allclose(numpy(scores), expected, rtol=1e-5)
        wanted = np.einsum("bt,btd->bd", expected, x)
        np.testing.assert_allclose(numpy(y), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("feed_forward", [True, False])
def test_set_transformer(seeds, norm, feed_forward):
    layer = ka.PoolingByMultiheadAttention(
        2,
        seeds,
        use_layer_norm=norm,
        use_input_feed_forward=feed_forward,
        name="pool",
    )
    x = draw(2, 7, 6)
    build(layer, x.shape)
    w = weights_of(layer)

    def dense(name, x):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def normalize(name, x):
        if not norm:
            return x
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]

    mask = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 0, 0]], bool)
    z = np.maximum(dense("input_feed_forward", x), 0) if feed_forward else x
    learned = np.broadcast_to(w["seeds"], (2, seeds, 6))
    # Multi-head attention has a reference in its own test.
    attended, scores = map(
        numpy,
        layer.attention(
            learned.astype("float32"),
            z.astype("float32"),
            value_mask=mask,
            return_attention_scores=True,
        ),
    )
    assert (scores * ~mask[:, None, None] == 0).all()
    hidden = normalize("attention_norm", learned + attended)
    expected = normalize(
        "output_norm", hidden + np.maximum(dense("feed_forward", hidden), 0)
    )
    expected = expected[:, 0] if seeds == 1 else expected
    noise = np.where(mask[..., None], x, np.nan)
    y, found = layer(noise, mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(numpy(found), scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)


def test_one_seed_keeps_its_axis():
    layer = ka.PoolingByMultiheadAttention(2, keepdims=True)
    assert tuple(layer(draw(2, 7, 6)).shape) == (2, 1, 6)


@layers
def test_order_has_no_effect(name):
    layer, x = LAYERS[name](), draw(2, 7, 6)
    build(layer, x.shape)
    np.testing.assert_allclose(
        numpy(layer(x[:, ::-1])), numpy(layer(x)), rtol=1e-4, atol=1e-5
    )


@layers
def test_after_an_lstm(name):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 6, mask_zero=True)(tokens)
    x = keras.layers.LSTM(6, return_sequences=True)(x)
    layer = LAYERS[name](name="pool")
    model = keras.Model(tokens, keras.layers.Dense(2)(layer(x)))
    assert attention_layers(model) == [layer]
    given = np.array([[3, 4, 0, 0], [5, 6, 7, 1]])
    _, values = read_outputs(model, given, ["pool:scores"])
    scores = numpy(values["pool:scores"])
    assert (scores[0, ..., 2:] == 0).all()
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-5)
    short = model(given[:1, :2])
    np.testing.assert_allclose(
        numpy(model(given))[:1], numpy(short), rtol=1e-4, atol=1e-5
    )


@layers
@pytest.mark.parametrize("length", [0, 1])
def test_few_tokens(name, length):
    y = LAYERS[name]()(draw(2, length, 6))
    assert tuple(y.shape) == (2, 6)
    assert np.isfinite(numpy(y)).all()


def test_a_masked_sequence_gives_zeros():
    mask = np.array([[0, 0, 0], [0, 1, 1]], bool)
    y = numpy(ka.AttentionPooling1D()(draw(2, 3, 6), mask=mask))
    assert (y[0] == 0).all()
    assert (y[1] != 0).any()


@layers
def test_symbolic_shapes(name):
    y, scores = LAYERS[name]()(
        keras.KerasTensor((None, None, 6)), return_attention_scores=True
    )
    assert y.shape == (None, 6)
    assert scores.shape[0] is None
    assert scores.shape[-1] is None


@pytest.mark.parametrize(
    "error, match, call",
    [
        (ValueError, "`units`", lambda: ka.AttentionPooling1D(0)),
        (TypeError, "`use_bias`", lambda: ka.AttentionPooling1D(use_bias=1)),
        (ValueError, "rank 3", lambda: ka.AttentionPooling1D()(draw(2, 3))),
        (
            ValueError,
            "`mask` must have the shape",
            lambda: ka.AttentionPooling1D()(
                draw(2, 3, 4), mask=np.ones((2, 4), bool)
            ),
        ),
        (
            ValueError,
            "multiple of `num_heads`",
            lambda: ka.PoolingByMultiheadAttention(3)(draw(2, 3, 4)),
        ),
        (
            ValueError,
            "`num_seeds`",
            lambda: ka.PoolingByMultiheadAttention(3, 0),
        ),
    ],
)
def test_wrong_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()
