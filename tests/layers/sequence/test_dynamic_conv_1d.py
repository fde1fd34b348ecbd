import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.convolutions import convolve
from support.convolutions import decode
from support.convolutions import decode_after_prompts
from support.convolutions import randomize
from support.convolutions import sequence

SHAPE = (2, 11, 15)


def build(heads, taps, channels=15, **arguments):
    layer = ka.DynamicConv1D(heads, taps, **arguments)
    layer.build((None, None, channels))
    return randomize(layer)


def logits(layer, x):
    """Section 4: a linear function of the input for each tap and head."""
    kernel, *bias = [numpy(w) for w in layer.filters.weights]
    flat = x.astype("float64") @ kernel + sum(bias)
    return flat.reshape(*x.shape[:2], layer.num_heads, layer.kernel_size)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 7, 23])
def test_equals_the_paper(taps, renormalize, causal):
    x = sequence(*SHAPE)
    mask = np.ones(SHAPE[:2], bool)
    mask[0, 7:] = mask[1, 3] = False
    layer = build(3, taps, causal=causal, renormalize_padding=renormalize)
    for m in (None, mask):
        # Masked positions are zero, also where filters are predicted.
        z = x if m is None else np.where(m[..., None], x, 0)
        expected = convolve(z, logits(layer, z), causal, m, renormalize)
        np.testing.assert_allclose(
            numpy(layer(x, mask=m)), expected, rtol=1e-4, atol=1e-4
        )


def test_longer_than_a_block():
    x = sequence(2, 70, 6)
    layer = build(2, 5, channels=6)
    np.testing.assert_allclose(
        numpy(layer(x)), convolve(x, logits(layer, x)), rtol=1e-4, atol=1e-4
    )


def test_worked_by_hand():
    """The logits of the two taps are 0 and log 3 times the input."""
    layer = ka.DynamicConv1D(num_heads=1, kernel_size=2, causal=True)
    x = np.array([[[1.0], [-1.0], [0.0], [2.0]]], "float32")
    layer.build(x.shape)
    layer.filters.kernel.assign([[0.0, np.log(3)]])
    # Weights (1/4, 3/4), (3/4, 1/4), (1/2, 1/2), (1/10, 9/10).
    np.testing.assert_allclose(
        numpy(layer(x)).ravel(), [0.75, 0.5, -0.5, 1.8], rtol=1e-6
    )


def test_fewer_positions_than_taps_use_the_softmax_over_all_taps():
    """One position: its own tap, the last, has one of five equal weights."""
    layer = ka.DynamicConv1D(1, 5, causal=True, kernel_initializer="zeros")
    x = np.array([[[5.0]]], "float32")
    np.testing.assert_allclose(numpy(layer(x)).ravel(), [1.0], rtol=1e-6)
    y, _ = layer(x, cache=layer.initial_cache(1))
    np.testing.assert_allclose(numpy(y).ravel(), [1.0], rtol=1e-6)


def test_biases():
    x = sequence(*SHAPE)
    layer = build(3, 5, use_bias=True, use_filter_bias=True)
    assert layer.count_params() == 15 * 15 + 15 + 15
    expected = convolve(x, logits(layer, x)) + numpy(layer.bias)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-4)


def test_number_of_parameters():
    layer = ka.DynamicConv1D(16, 31)
    layer.build((None, None, 1024))
    assert layer.count_params() == 1024 * 16 * 31


def test_query_predicts_the_filters():
    x, query = sequence(*SHAPE), sequence(2, 11, 7, seed=5)
    layer = ka.DynamicConv1D(3, 5)
    layer(x, query=query)
    randomize(layer)
    expected = convolve(x, logits(layer, query))
    np.testing.assert_allclose(
        numpy(layer(x, query=query)), expected, rtol=1e-4, atol=1e-4
    )


def test_query_in_a_saved_functional_model(tmp_path):
    inputs, other = keras.Input((None, 15)), keras.Input((None, 7))
    outputs = ka.DynamicConv1D(3, 5)(inputs, query=other)
    assert outputs.shape == (None, None, 15)
    model = keras.Model([inputs, other], outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    values = [sequence(*SHAPE), sequence(2, 11, 7, seed=5)]
    np.testing.assert_array_equal(numpy(model(values)), numpy(loaded(values)))


def test_mask_of_the_input_beside_a_query():
    embedding = keras.layers.Embedding(11, 15, mask_zero=True)
    tokens = np.array([[3, 5, 7, 2, 0], [4, 1, 0, 0, 0]])
    query = sequence(2, 5, 7)
    layer = ka.DynamicConv1D(3, 3, renormalize_padding=True)
    y = layer(embedding(tokens), query=query)
    x = numpy(embedding(tokens)).astype("float32")
    expected = convolve(x, logits(layer, query), False, tokens > 0, True)
    np.testing.assert_allclose(numpy(y), expected, atol=1e-5)
    np.testing.assert_array_equal(numpy(y._keras_mask), tokens > 0)


def test_bad_queries():
    x, query = sequence(*SHAPE), sequence(2, 11, 7)
    layer = ka.DynamicConv1D(3, 5)
    layer(x, query=query)
    with pytest.raises(ValueError, match="Give `query`"):
        layer(x)
    for wrong in (query[:, :10], query[..., :6], query[:1]):
        with pytest.raises(ValueError, match="`query` must have the shape"):
            layer(x, query=wrong)
    with pytest.raises(ValueError, match=r"rank 3.*shape=\(2, 7\)"):
        ka.DynamicConv1D(3, 5)(x, query=query[:, 0])


def test_dropped_weights():
    """By default each position has a drawing of its own."""
    x = np.ones((3, 50, 4), "float32")
    for arguments in ({}, {"shared_dropout": True}):
        layer = ka.DynamicConv1D(
            2, 8, causal=True, weight_dropout=0.5, seed=1, **arguments
        )
        layer.build(x.shape)
        layer.filters.kernel.assign(np.zeros((4, 16)))
        np.testing.assert_allclose(numpy(layer(x))[:, 7:], 1, rtol=1e-6)
        y = numpy(layer(x, training=True))[:, 7:]
        taps = 4 * y
        np.testing.assert_allclose(taps, taps.round(), atol=1e-5)
        assert (np.ptp(taps.round(), axis=(0, 1)) == 0).all() == bool(arguments)


@pytest.mark.parametrize("taps", [1, 4, 17])
@pytest.mark.parametrize("renormalize", [False, True])
def test_decoding_equals_the_full_pass(renormalize, taps):
    """The longest filter is longer than the sequence."""
    x = sequence(*SHAPE)
    layer = build(3, taps, causal=True, renormalize_padding=renormalize)
    full = numpy(layer(x))
    for steps in ([1] * 11, [11], [3, 1, 5, 2]):
        np.testing.assert_allclose(
            decode(layer, x, steps), full, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("renormalize", [False, True])
def test_decoding_after_padded_prompts(renormalize):
    x = sequence(3, 12, 15)
    layer = build(3, 6, causal=True, renormalize_padding=renormalize)
    full = numpy(layer(x))
    lengths = (6, 1, 4)
    rows = decode_after_prompts(layer, x, lengths, tokens=5)
    for row, length, expected in zip(rows, lengths, full, strict=True):
        np.testing.assert_allclose(
            row, expected[: length + 5], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("steps", [[1] * 11, [3, 8], [6, 1, 2, 2]])
def test_decoding_with_masked_tokens_in_between(steps):
    x = sequence(*SHAPE)
    mask = np.ones(SHAPE[:2], bool)
    mask[0, 2:4] = mask[0, 6] = mask[1, :3] = mask[1, 5:9] = False
    layer = build(3, 4, causal=True, renormalize_padding=True)
    full = numpy(layer(x, mask=mask))
    x[~mask] = np.nan
    found = decode(layer, x, steps, mask)
    np.testing.assert_allclose(found, full, rtol=1e-4, atol=1e-5)


def test_decoding_with_a_query():
    x, query = sequence(*SHAPE), sequence(2, 11, 7, seed=5)
    layer = ka.DynamicConv1D(3, 5, causal=True)
    full = numpy(layer(x, query=query))
    cache, outputs = layer.initial_cache(2), []
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        y, cache = layer(x[:, part], query=query[:, part], cache=cache)
        outputs.append(numpy(y))
    np.testing.assert_allclose(
        np.concatenate(outputs, axis=1), full, rtol=1e-5, atol=1e-6
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_decoding_in_a_function(jit):
    import tensorflow as tf

    x = sequence(*SHAPE)
    layer = build(3, 4, causal=True)
    step = tf.function(
        lambda x, cache: layer(x, cache=cache),
        jit_compile=jit,
        autograph=False,
        reduce_retracing=True,
    )
    cache, outputs = layer.initial_cache(2), []
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        y, cache = step(tf.constant(x[:, part]), cache)
        outputs.append(numpy(y))
    np.testing.assert_allclose(
        np.concatenate(outputs, axis=1), numpy(layer(x)), rtol=1e-4, atol=1e-5
    )


def test_float16_logits_beyond_its_range():
    """The softmax is in float32; logits of 60,000 and their differences."""
    layer = ka.DynamicConv1D(1, 3, dtype="mixed_float16")
    layer.build((None, None, 1))
    layer.filters.kernel.assign([[30_000.0, -30_000.0, 30_000.0]])
    x = np.full((1, 5, 1), 2.0, "float32")
    np.testing.assert_allclose(numpy(layer(x))[0, 1:-1], 2, rtol=1e-3)


def test_initializers_and_regularizers_reach_the_kernel():
    layer = ka.DynamicConv1D(
        2, 3, kernel_initializer="ones", kernel_regularizer="l1"
    )
    layer.build((None, None, 4))
    np.testing.assert_allclose(
        numpy(sum(layer.losses)), 0.01 * 4 * 6, rtol=1e-6
    )


def test_bad_filter_bias():
    with pytest.raises(TypeError, match="`use_filter_bias`"):
        ka.DynamicConv1D(2, 3, use_filter_bias=1)
