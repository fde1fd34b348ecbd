"""Keys and values of an encoder are projected once, for many calls."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import positions
from support.arrays import numpy
from support.attention import draw

WIDTH, ENCODED = 12, 10
LAYERS = {
    "multi-head": lambda **a: ka.MultiHeadAttention(
        4, num_kv_heads=2, qk_norm=True, **a
    ),
    "sinks": lambda **a: ka.MultiHeadAttention(2, use_sinks=True, **a),
    "differential": lambda **a: ka.DifferentialAttention(
        4, key_dim=4, num_kv_heads=2, **a
    ),
}
ROTARY = {
    "multi-head": lambda: ka.MultiHeadAttention(
        2, positions=positions.Rotary("half")
    ),
    "latent": lambda: ka.MultiHeadLatentAttention(3),
    "differential": lambda: ka.DifferentialAttention(3, positions="rotary"),
}
layers = pytest.mark.parametrize("name", LAYERS)


def tokens(*shape, width=WIDTH, seed=0):
    return draw(*shape, width, seed=seed, dtype="float32")


def built(layer):
    layer.build((None, None, WIDTH), (None, None, ENCODED))
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(draw(*variable.shape, seed=seed) / 2)
    return layer


def check(found, expected):
    np.testing.assert_allclose(
        numpy(found), numpy(expected), rtol=1e-4, atol=1e-5
    )


@layers
@pytest.mark.parametrize("masked", [None, slice(0, 2), slice(5, 7)], ids=str)
def test_equals_a_call_with_the_values(name, masked):
    layer = built(LAYERS[name]())
    query, value = tokens(2, 4), tokens(2, 7, width=ENCODED, seed=1)
    mask = None
    if masked is not None:
        mask = np.ones((2, 7), bool)
        mask[0, masked] = False
    expected, scores = layer(
        query, value, value_mask=mask, return_attention_scores=True
    )
    if mask is not None:
        value[~mask] = np.nan
    memory = layer.encode_memory(value, value_mask=mask)
    found, weights, after = layer(
        query, cache=memory, return_attention_scores=True
    )
    check(found, expected)
    check(weights, scores)
    assert after.keys() == memory.keys()
    for step in range(4):
        found, memory = layer(query[:, step : step + 1], cache=memory)
        check(found[:, 0], expected[:, step])


@layers
def test_masks_of_a_call_hold_as_well(name):
    layer = built(LAYERS[name]())
    query, value = tokens(2, 4), tokens(2, 7, width=ENCODED, seed=1)
    arguments = {
        "query_mask": np.array([[1, 1, 1, 0], [1, 0, 1, 1]], bool),
        "attention_mask": draw(2, 4, 7, seed=3) > -0.5,
        "attention_bias": draw(4, 7, seed=4, dtype="float32"),
    }
    expected = layer(query, value, **arguments)
    memory = layer.encode_memory(value)
    found, _ = layer(query, cache=memory, **arguments)
    check(found, expected)


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_positions_are_given(name):
    layer = built(ROTARY[name]())
    query, value = tokens(2, 4), tokens(2, 7, width=ENCODED, seed=1)
    places, of_keys = np.array([2, 3, 5, 9]), np.arange(7) * 2
    expected = layer(
        query, value, query_positions=places, key_positions=of_keys
    )
    memory = layer.encode_memory(value, key_positions=of_keys)
    for part in (slice(4), slice(1, 2)):
        found, _ = layer(
            query[:, part], cache=memory, query_positions=places[part]
        )
        check(found, numpy(expected)[:, part])
    with pytest.raises(ValueError, match="`query_positions` must be given"):
        layer(query, cache=memory)


def test_mask_of_an_embedding_is_used():
    layer = built(LAYERS["multi-head"]())
    embedding = keras.layers.Embedding(9, ENCODED, mask_zero=True)
    value = embedding(np.array([[3, 4, 0, 0], [5, 6, 7, 0]]))
    query = tokens(2, 3)
    memory = layer.encode_memory(value)
    np.testing.assert_array_equal(numpy(memory["mask"]).sum(1), [2, 3])
    check(layer(query, cache=memory)[0], layer(query, value))


def test_symbolic_memory():
    layer = built(LAYERS["multi-head"]())
    memory = layer.encode_memory(tokens(2, 7, width=ENCODED))
    memory = {
        name: keras.KerasTensor(kept.shape, kept.dtype)
        for name, kept in memory.items()
    }
    y, scores, after = layer(
        keras.KerasTensor((2, 3, WIDTH)),
        cache=memory,
        return_attention_scores=True,
    )
    assert tuple(y.shape) == (2, 3, WIDTH)
    assert tuple(scores.shape) == (2, 4, 3, 7)
    assert after.keys() == memory.keys()


@layers
def test_options_that_count_from_the_end_are_refused(name):
    value = tokens(2, 7, width=ENCODED)
    for arguments, message in (
        ({"causal": True}, "causal=True"),
        ({"window": 3}, "window=3"),
        ({"positions": "alibi"}, "ALiBi"),
    ):
        with pytest.raises(ValueError, match=message):
            built(LAYERS[name](**arguments)).encode_memory(value)


def test_what_does_not_fit_is_refused():
    layer = LAYERS["multi-head"]()
    value = tokens(2, 7, width=ENCODED)
    with pytest.raises(ValueError, match="not built"):
        layer.encode_memory(value)
    memory = built(layer).encode_memory(value)
    with pytest.raises(ValueError, match=r"Received: \['value'\]"):
        layer(tokens(2, 3), value, cache=memory)
    with pytest.raises(ValueError, match="another batch.*2 rows.*batch of 3"):
        layer(tokens(3, 3), cache=memory)
    for query in (tokens(2, 3), keras.KerasTensor((2, 3, WIDTH))):
        with pytest.raises(ValueError, match="use_causal_mask=True"):
            layer(query, cache=memory, use_causal_mask=True)
    other = built(LAYERS["sinks"]()).encode_memory(value)
    with pytest.raises(ValueError, match="another layer"):
        layer(tokens(2, 3), cache=other)
    del memory["key"]
    with pytest.raises(ValueError, match="'key', 'value', 'mask'"):
        layer(tokens(2, 3), cache=memory)
