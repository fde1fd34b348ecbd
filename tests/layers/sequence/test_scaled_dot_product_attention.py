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
