import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.attention import attention
from support.attention import draw


def tokens(*shape, seed=0):
    return draw(*shape, seed=seed, dtype="float32")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"causal": True},
        {"window": 2},
        {"logit_soft_cap": 0.5},
    ],
)
def test_equals_the_paper(options):
    query, key, value = (
        tokens(2, 5, 4),
        tokens(2, 7, 4, seed=1),
        tokens(2, 7, 3, seed=2),
    )
    layer = ka.ScaledDotProductAttention(**options)
    y, scores = layer(query, value, key, return_attention_scores=True)
    expected, expected_scores = attention(
        *(x[:, :, None] for x in (query, key, value)), **options
    )
    np.testing.assert_allclose(numpy(y), expected[:, :, 0], atol=1e-5)
    np.testing.assert_allclose(numpy(scores), expected_scores[:, 0], atol=1e-5)


def test_heads_in_an_axis_of_their_own():
    query, key = tokens(2, 5, 6, 4), tokens(2, 7, 3, 4, seed=1)
    y, scores = ka.ScaledDotProductAttention()(
        query, key, return_attention_scores=True
    )
    expected, expected_scores = attention(query, key, key)
    np.testing.assert_allclose(numpy(y), expected, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), expected_scores, atol=1e-5)


def test_masks_and_bias():
    query, value = tokens(2, 5, 4), tokens(2, 7, 4, seed=1)
    generator = np.random.default_rng(0)
    value_mask = generator.random((2, 7)) < 0.7
    mask = generator.random((2, 5, 7)) < 0.7
    bias = tokens(5, 7, seed=3)
    y = ka.ScaledDotProductAttention()(
        query,
        value,
        value_mask=value_mask,
        attention_mask=mask,
        attention_bias=bias,
    )
    seen = (mask & value_mask[:, None])[:, None]
    expected, _ = attention(
        *(x[:, :, None] for x in (query, value, value)), mask=seen, bias=bias
    )
    np.testing.assert_allclose(numpy(y), expected[:, :, 0], atol=1e-5)


# In place of `keras.layers.Attention`.


def keras_pair(**arguments):
    """Keras' layer and ours of its configuration, with equal weights."""
    theirs = keras.layers.Attention(**arguments)
    ours = ka.ScaledDotProductAttention.from_config(theirs.get_config())
    for layer in (theirs, ours):
        layer.build([(2, 5, 4), (2, 3, 4), (2, 3, 4)])
        layer.set_weights(
            [np.float32(0.6 + 0.7 * n) for n in range(len(layer.weights))]
        )
    return theirs, ours


@pytest.mark.parametrize("use_scale", [False, True])
@pytest.mark.parametrize("score_mode", ["dot", "concat"])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_layer_of_keras(use_scale, score_mode, causal):
    theirs, ours = keras_pair(use_scale=use_scale, score_mode=score_mode)
    query, value, key = (
        tokens(2, length, 4, seed=n) for n, length in enumerate((5, 3, 3))
    )
    masks = [
        np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]], bool),
        np.array([[1, 0, 1], [1, 1, 0]], bool),
    ]
    call = {"use_causal_mask": causal, "return_attention_scores": True}
    for inputs in ([query, value], [query, value, key]):
        for mask in (None, masks):
            expected = theirs(inputs, mask=mask, **call)
            found = ours(inputs, mask=mask, **call)
            real = slice(None) if mask is None else masks[0]
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(
                    numpy(one)[real], numpy(other)[real], atol=1e-6
                )
            named = ours(*inputs, mask=mask, **call)
            np.testing.assert_array_equal(numpy(named[0]), numpy(found[0]))


def test_added_scores_by_hand():
    layer = ka.ScaledDotProductAttention(score_mode="concat")
    query, value = np.zeros((1, 1, 1)), np.array([[[0.0], [np.arctanh(0.5)]]])
    _, scores = layer(query, value, return_attention_scores=True)
    weights = np.exp([0, 0.5]) / np.exp([0, 0.5]).sum()
    np.testing.assert_allclose(numpy(scores)[0, 0], weights, rtol=1e-6)


@pytest.mark.parametrize("score_mode", ["dot", "concat"])
def test_a_learned_scale_with_our_options(score_mode):
    query, value = tokens(2, 4, 6, 5), tokens(2, 4, 3, 5, seed=1)
    layer = ka.ScaledDotProductAttention(
        use_scale=True, score_mode=score_mode, causal=True, window=3
    )
    full = numpy(layer(query, value))
    assert len(layer.trainable_weights) == (1 if score_mode == "dot" else 2)
    if score_mode == "dot":
        expected, _ = attention(query, value, value, causal=True, window=3)
        np.testing.assert_allclose(full, expected, atol=1e-5)
    layer.set_weights([np.float32(1.5)] * len(layer.weights))
    full = numpy(layer(query, value))
    cache = layer.initial_cache(2, 5)
    outputs = []
    for start, stop in ((0, 1), (1, 4)):
        y, cache = layer(
            query[:, start:stop], value[:, start:stop], cache=cache
        )
        outputs.append(numpy(y))
    np.testing.assert_allclose(np.concatenate(outputs, 1), full, atol=1e-5)


def test_lists_in_a_model(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(7, 4, mask_zero=True)(ids)
    states = keras.layers.LSTM(4, return_sequences=True)(x)
    layer = ka.ScaledDotProductAttention(use_scale=True)
    y, scores = layer([states, x], return_attention_scores=True)
    assert tuple(y.shape) == (None, None, 4)
    assert tuple(scores.shape) == (None, None, None)
    model = keras.Model(ids, keras.layers.GlobalAveragePooling1D()(y))
    tokens = np.array([[3, 2, 5], [1, 6, 4]])
    padded = np.pad(tokens, ((0, 0), (0, 2)))
    np.testing.assert_allclose(
        numpy(model(padded)), numpy(model(tokens)), atol=1e-6
    )
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again(padded)), numpy(model(padded)))


@pytest.mark.parametrize(
    "match, call",
    [
        ("a list of 1", lambda layer, x: layer([x])),
        ("a list of 4", lambda layer, x: layer([x] * 4)),
        ("a list of 2.*, and a value", lambda layer, x: layer([x, x], x)),
        ("list of masks", lambda layer, x: layer([x, x], mask=[None])),
        ("key without value", lambda layer, x: layer(x, key=x)),
        (
            "`scale` is for",
            lambda *_: ka.ScaledDotProductAttention(2.0, score_mode="concat"),
        ),
        (
            "`score_mode`",
            lambda *_: ka.ScaledDotProductAttention(score_mode="general"),
        ),
    ],
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_wrong_lists(match, call, symbolic):
    x = keras.KerasTensor((2, 5, 4)) if symbolic else tokens(2, 5, 4)
    with pytest.raises(ValueError, match=match):
        call(ka.ScaledDotProductAttention(), x)


def test_dropout_in_training_only():
    x = tokens(2, 5, 4)
    layer = ka.ScaledDotProductAttention(dropout=0.5, seed=1)
    plain = numpy(ka.ScaledDotProductAttention()(x))
    np.testing.assert_array_equal(numpy(layer(x)), plain)
    assert (numpy(layer(x, training=True)) != plain).any()


def test_decoding_equals_the_full_pass():
    query, value = tokens(2, 5, 2, 4), tokens(2, 5, 1, 4, seed=1)
    layer = ka.ScaledDotProductAttention(causal=True, window=3)
    full = numpy(layer(query, value))
    cache = layer.initial_cache(2, 6)
    outputs = []
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        y, cache = layer(
            query[:, start:stop], value[:, start:stop], cache=cache
        )
        outputs.append(numpy(y))
    np.testing.assert_allclose(np.concatenate(outputs, 1), full, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"scale": "1"}, TypeError),
        ({"dropout": -0.1}, ValueError),
        ({"causal": None}, TypeError),
        ({"window": 0}, ValueError),
        ({"logit_soft_cap": 0}, ValueError),
        ({"seed": "1"}, TypeError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.ScaledDotProductAttention(**arguments)


def test_bad_shapes():
    layer = ka.ScaledDotProductAttention(name="attention")
    with pytest.raises(ValueError, match="rank 3.*'attention'"):
        layer.build((None, 4))
    with pytest.raises(ValueError, match="rank 3"):
        layer.build((None, 3, 4), (None, 3, 2, 4))
    with pytest.raises(ValueError, match="defined widths"):
        layer.build((None, 3, None))
    with pytest.raises(ValueError, match="same width. Received: 4 and 5"):
        layer.build((None, 3, 4), (None, 3, 5))
    layer = ka.ScaledDotProductAttention(causal=True)
    with pytest.raises(ValueError, match="not built"):
        layer.initial_cache(2, 5)
