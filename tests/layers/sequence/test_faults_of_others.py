"""What `keras.layers.MultiHeadAttention` 3.15 gets wrong, and ours right."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.attention import draw


def tokens(*shape, seed=0):
    return draw(*shape, seed=seed, dtype="float32")


def made(**arguments):
    return ka.MultiHeadAttention(**{"num_heads": 2, **arguments})


@pytest.mark.tensorflow
@pytest.mark.parametrize("training", [False, True])
def test_1_long_sequences_need_no_square_of_scores(training):
    import tensorflow as tf

    layer = made(dropout=0.1, causal=True)
    layer.build((None, None, 8))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        return tape.gradient(y, x)

    graph = step.get_concrete_function(tf.TensorSpec((1, 2048, 8))).graph
    shapes = [
        tensor.shape
        for inner in (graph, *(f.graph for f in graph._functions.values()))
        for operation in inner.get_operations()
        for tensor in operation.outputs
        if tensor.shape.rank is not None
    ]
    assert len(shapes) > 500
    assert not [s for s in shapes if [d or 0 for d in s].count(2048) > 1]


def test_2_fully_masked_queries_get_zeros_whatever_is_asked_for():
    layer, x = made(), tokens(2, 5, 8)
    mask = np.ones((2, 5, 5), bool)
    mask[1, 3] = False
    y = layer(x, attention_mask=mask)
    bias = numpy(layer.weights[-1])
    np.testing.assert_allclose(numpy(y)[1, 3], bias, atol=1e-7)
    again, scores = layer(x, attention_mask=mask, return_attention_scores=True)
    np.testing.assert_array_equal(numpy(again), numpy(y))
    assert (numpy(scores)[1, :, 3] == 0).all()


def test_3_a_float_mask_is_refused():
    layer, x = made(), tokens(2, 5, 8)
    additive = np.where(np.tri(5) > 0, 0.0, -1e9).astype("float32")
    with pytest.raises(TypeError, match="must be boolean.*is a bias"):
        layer(x, attention_mask=additive)
    np.testing.assert_allclose(
        numpy(layer(x, attention_bias=additive)),
        numpy(layer(x, attention_mask=additive == 0)),
        atol=1e-6,
    )


def test_4_a_mask_by_head_goes_with_a_padding_mask():
    layer, x = made(), tokens(2, 5, 8)  # as many rows as heads
    padding = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], bool)
    by_head = np.random.default_rng(0).random((1, 2, 5, 5)) < 0.6
    _, scores = layer(
        x, mask=padding, attention_mask=by_head, return_attention_scores=True
    )
    seen = by_head & padding[:, None, None, :] & padding[:, None, :, None]
    assert ((numpy(scores) > 0) == seen).all()


def test_5_causal_is_aligned_at_the_last_key():
    layer = made(causal=True)
    _, scores = layer(
        tokens(1, 2, 8), tokens(1, 5, 8), return_attention_scores=True
    )
    seen = (numpy(scores)[0, 0] > 0).astype(int)
    np.testing.assert_array_equal(seen, [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])


def test_6_dropout_changes_nothing_at_inference():
    x = tokens(2, 5, 8)
    plain, dropping = made(), made(dropout=0.5)
    plain.build(x.shape)
    dropping.build(x.shape)
    for one, other in zip(
        dropping.trainable_variables, plain.trainable_variables, strict=True
    ):
        one.assign(other)
    np.testing.assert_array_equal(numpy(dropping(x)), numpy(plain(x)))


def test_7_symbolic_shapes_are_those_of_the_result():
    layer = made(key_dim=3, value_dim=5, output_shape=7)
    query, value = keras.Input((5, 8)), keras.Input((6, 9))
    y, scores = layer(query, value, return_attention_scores=True)
    assert tuple(y.shape) == (None, 5, 7)
    assert tuple(scores.shape) == (None, 2, 5, 6)
    model = keras.Model([query, value], [y, scores])
    y, scores = model([tokens(3, 5, 8), tokens(3, 6, 9)])
    assert tuple(y.shape) == (3, 5, 7)
    assert tuple(scores.shape) == (3, 2, 5, 6)


def test_8_the_config_is_complete_and_the_mask_is_the_callers():
    layer = made(window=3, positions="alibi", dropout=0.2, seed=4)
    before = layer.get_config()
    x = keras.layers.Embedding(4, 8, mask_zero=True)(np.array([[1, 2, 0]]))
    mine = np.array([[False, True, True]])
    _, scores = layer(x, query_mask=mine, return_attention_scores=True)
    assert layer.get_config() == before
    assert ((numpy(scores)[0, 0].sum(-1) > 0) == mine[0]).all()
    np.testing.assert_array_equal(numpy(x._keras_mask), [[1, 1, 0]])


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_9_grouped_heads_equal_repeated_ones(kv_heads):
    """`test_grouped_keys_are_not_repeated` holds the op to its memory."""
    grouped, repeated = (
        made(num_heads=4, num_kv_heads=kv_heads),
        made(num_heads=4),
    )
    x = tokens(2, 5, 8)
    grouped.build(x.shape)
    repeated.build(x.shape)
    values = grouped.get_weights()
    for n in (2, 4):  # the kernels of keys and values
        values[n] = values[n].repeat(4 // kv_heads, axis=1)
    for n in (3, 5):  # their biases
        values[n] = values[n].repeat(4 // kv_heads, axis=0)
    repeated.set_weights(values)
    np.testing.assert_allclose(numpy(grouped(x)), numpy(repeated(x)), atol=1e-6)


def test_10_large_float16_products_give_no_nan():
    layer = ka.ScaledDotProductAttention(dtype="float16")
    x = np.full((1, 3, 64), 60, "float16")  # q · k is 230,400
    np.testing.assert_array_equal(numpy(layer(x)), x)


def test_11_one_input_is_self_attention():
    model = keras.Sequential([keras.Input((5, 8)), made()])
    x = tokens(2, 5, 8)
    layer = model.layers[0]
    np.testing.assert_allclose(
        numpy(model(x)), numpy(layer(x, x, x)), atol=1e-6
    )
