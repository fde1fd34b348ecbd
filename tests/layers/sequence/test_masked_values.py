"""What is masked may hold anything: it is replaced, not multiplied by 0.

Valid outputs and all gradients of the weights are those of finite padding, and
the gradient at masked inputs is exactly 0.
"""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models.transformer import ConvolutionMixer
from keras_attention.models.transformer import RecurrentMixer
from keras_attention.models.transformer import TransformerDecoderBlock
from keras_attention.models.transformer import TransformerEncoderBlock
from keras_attention.ops.attention import chunk_plan
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention,
)
from support.arrays import numpy

BACKEND = keras.backend.backend()
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1, 0]], bool)

LAYERS = {
    "attention": lambda: ka.MultiHeadAttention(2),
    "causal": lambda: ka.MultiHeadAttention(2, causal=True),
    "window": lambda: ka.MultiHeadAttention(2, window=2, positions="alibi"),
    "causal-window": lambda: ka.MultiHeadAttention(
        2, causal=True, window=3, positions="rotary", qk_norm=True
    ),
    "relative-sinks": lambda: ka.MultiHeadAttention(
        4, num_kv_heads=2, positions="relative", use_sinks=True
    ),
    "no-weights": lambda: ka.ScaledDotProductAttention(logit_soft_cap=2.0),
    "no-weights-causal": lambda: ka.ScaledDotProductAttention(causal=True),
    "lightweight": lambda: ka.LightweightConv1D(2, 3),
    "lightweight-causal": lambda: ka.LightweightConv1D(
        2, 4, causal=True, renormalize_padding=True, use_bias=True
    ),
    "dynamic": lambda: ka.DynamicConv1D(2, 3, use_filter_bias=True),
    "dynamic-causal": lambda: ka.DynamicConv1D(
        2, 4, causal=True, renormalize_padding=True
    ),
    "gated": lambda: ka.GatedConvolutionBlock(2, 3),
    "gated-dynamic": lambda: ka.GatedConvolutionBlock(2, 3, "dynamic"),
    "convolution-mixer": lambda: ConvolutionMixer(3),
    "recurrent-mixer": lambda: RecurrentMixer(causal=True),
    "recurrent-both": lambda: RecurrentMixer(),
    "encoder-block": lambda: TransformerEncoderBlock(
        ka.MultiHeadAttention(2), 5
    ),
    "encoder-norm-first": lambda: TransformerEncoderBlock(
        ka.GatedConvolutionBlock(2, 3), 5, norm_first=True
    ),
    "encoder-foreign": lambda: TransformerEncoderBlock(
        keras.layers.Conv1D(8, 3, padding="same"), 5
    ),
}
layers = pytest.mark.parametrize("name", LAYERS)
fillings = pytest.mark.parametrize("filling", [np.nan, np.inf, -np.inf])


def tokens(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


def derivatives(function, arrays, weights=()):
    """Outputs of a function, and gradients to arrays and variables."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        values = [tf.constant(x) for x in arrays]
        variables = [weight.value for weight in weights]
        with tf.GradientTape() as tape:
            tape.watch(values)
            y = function(*values)
            total = tf.reduce_sum(y * tokens(*y.shape, seed=9))
        found = tape.gradient(total, values + variables)
        found = [tf.convert_to_tensor(x) for x in found]
    elif BACKEND == "jax":
        import jax

        def total(values, state):
            mapping = list(zip(weights, state, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                y = function(*values)
            return (y * tokens(*y.shape, seed=9)).sum(), y

        values = [jax.numpy.asarray(x) for x in arrays]
        state = [weight.value for weight in weights]
        found, y = jax.grad(total, (0, 1), has_aux=True)(values, state)
        found = [*found[0], *found[1]]
    else:
        values = [
            keras.ops.convert_to_tensor(x).detach().requires_grad_()
            for x in arrays
        ]
        for weight in weights:
            weight.value.grad = None
        y = function(*values)
        weighting = keras.ops.convert_to_tensor(tokens(*y.shape, seed=9))
        (y * weighting).sum().backward()
        found = [*(x.grad for x in values), *(w.value.grad for w in weights)]
        y, found = y.detach(), [x.detach() for x in found]
    return numpy(y), [numpy(x) for x in found]


def assert_equal(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@layers
@fillings
def test_layers(name, filling):
    layer, x = LAYERS[name](), tokens(2, 7, 8)
    layer(x)

    def run(x):
        return layer(x, mask=MASK)

    expected = derivatives(run, [x], layer.trainable_weights)
    x[~MASK] = filling
    found = derivatives(run, [x], layer.trainable_weights)
    assert_equal(found, expected)
    assert (found[1][0][~MASK] == 0).all()


@pytest.mark.parametrize("name", [n for n in LAYERS if "mixer" not in n])
def test_rows_that_are_masked_throughout(name):
    layer, x = LAYERS[name](), tokens(2, 7, 8)
    mask = MASK.copy()
    mask[1] = False
    layer(x)
    x[~mask] = np.nan
    output, gradients = derivatives(
        lambda x: layer(x, mask=mask), [x], layer.trainable_weights
    )
    assert np.isfinite(output).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert (gradients[0][1] == 0).all()


@fillings
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_query_value_and_key(causal, window, filling):
    layer = ka.MultiHeadAttention(2, causal=causal, window=window)
    arrays = [tokens(2, 5, 8), tokens(2, 7, 8, seed=1), tokens(2, 7, 8, seed=2)]
    layer(*arrays)
    query_mask, key_mask = MASK[:, :5], np.roll(MASK, 2, axis=1)
    both = MASK & key_mask

    def run(query, value, key):
        return layer(
            query,
            value,
            key,
            query_mask=query_mask,
            value_mask=MASK,
            key_mask=key_mask,
        )

    expected = derivatives(run, arrays, layer.trainable_weights)
    for array, mask in zip(arrays, (query_mask, both, both), strict=True):
        array[~mask] = filling
    found = derivatives(run, arrays, layer.trainable_weights)
    assert_equal(found, expected)
    for gradient, mask in zip(found[1], (query_mask, both, both), strict=False):
        assert (gradient[~mask] == 0).all()


@fillings
@pytest.mark.parametrize("with_scores", [False, True])
@pytest.mark.parametrize("make", ["weights", "none"])
def test_a_key_that_the_attention_mask_leaves_to_no_query(
    make, with_scores, filling
):
    layer = (
        ka.MultiHeadAttention(2)
        if make == "weights"
        else ka.ScaledDotProductAttention()
    )
    query, value = tokens(2, 5, 8), tokens(2, 7, 8, seed=1)
    layer(query, value)
    mask = np.random.default_rng(0).random((2, 5, 7)) < 0.7
    mask[0, :, 3] = mask[1, :, 5] = mask[1, 2] = False

    def run(query, value):
        y = layer(
            query,
            value,
            attention_mask=mask,
            return_attention_scores=with_scores,
        )
        return y[0] if with_scores else y

    expected = derivatives(run, [query, value], layer.trainable_weights)
    value[0, 3] = value[1, 5] = query[1, 2] = filling
    found = derivatives(run, [query, value], layer.trainable_weights)
    assert_equal(found, expected)
    if with_scores:
        _, scores = layer(
            query, value, attention_mask=mask, return_attention_scores=True
        )
        assert np.isfinite(numpy(scores)).all()


def test_a_token_without_part_in_self_attention():
    layer, x = ka.MultiHeadAttention(2, causal=True), tokens(2, 7, 8)
    layer(x)
    mask = np.ones((7, 7), bool)
    mask[3] = mask[:, 3] = False

    def run(x):
        return layer(x, attention_mask=mask)

    expected = derivatives(run, [x], layer.trainable_weights)
    x[:, 3] = np.nan
    assert_equal(derivatives(run, [x], layer.trainable_weights), expected)


@pytest.mark.parametrize("path", ["plain", "chunked"])
@pytest.mark.parametrize("by", ["key", "query", "head"])
@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 3}],
)
def test_every_path_of_the_op(path, by, options, monkeypatch):
    monkeypatch.setattr(chunk_plan, "QUERIES_PER_CHUNK", (4, 4))
    shapes = (2, 9, 4, 3), (2, 11, 2, 3), (2, 11, 2, 5)
    arrays = [tokens(*shape, seed=n) for n, shape in enumerate(shapes)]
    generator = np.random.default_rng(5)
    mask = {
        "key": generator.random((2, 1, 1, 11)) < 0.6,
        "query": generator.random((2, 1, 9, 11)) < 0.6,
        "head": generator.random((2, 4, 9, 11)) < 0.6,
    }[by]
    mask[:, :, :, 4] = False
    if by != "key":
        mask[:, :, 5] = False

    def run(*arrays):
        return scaled_dot_product_attention(
            *arrays, mask=mask, **options, implementation=path
        )

    expected = derivatives(run, arrays)
    arrays[1][:, 4] = arrays[2][:, 4] = np.nan
    if by != "key":
        arrays[0][:, 5] = np.inf
    found = derivatives(run, arrays)
    assert_equal(found, expected)
    assert (found[1][1][:, 4] == 0).all()


@pytest.mark.parametrize("path", ["plain", "chunked"])
def test_keys_and_queries_out_of_reach(path, monkeypatch):
    """By a window or causality alone, without a mask."""
    monkeypatch.setattr(chunk_plan, "QUERIES_PER_CHUNK", (4, 4))
    for queries, keys, options, unused in (
        (3, 9, {"window": 2}, {1: slice(0, 5), 2: slice(0, 5)}),
        (9, 3, {"causal": True}, {0: slice(0, 6)}),
    ):
        arrays = [tokens(1, n, 2, 4, seed=n) for n in (queries, keys, keys)]

        def run(*arrays, options=options):
            return scaled_dot_product_attention(
                *arrays, **options, implementation=path
            )

        expected = derivatives(run, arrays)
        for number, where in unused.items():
            arrays[number] = arrays[number].copy()
            arrays[number][:, where] = np.nan
        assert_equal(derivatives(run, arrays), expected)


def test_the_memory_of_a_decoder():
    block = TransformerDecoderBlock(
        ka.MultiHeadAttention(2, causal=True), ka.MultiHeadAttention(2), 5
    )
    x, memory = tokens(2, 5, 8), tokens(2, 7, 8, seed=1)
    block(x, memory)
    mask = MASK[:, :5]

    def run(x, memory):
        return block(x, memory, mask=mask, memory_mask=MASK)

    expected = derivatives(run, [x, memory], block.trainable_weights)
    x[~mask] = memory[~MASK] = np.nan
    found = derivatives(run, [x, memory], block.trainable_weights)
    assert_equal(found, expected)
    assert (found[1][0][~mask] == 0).all()
    assert (found[1][1][~MASK] == 0).all()


def test_the_query_of_dynamic_filters():
    layer = ka.DynamicConv1D(2, 3)
    x, query = tokens(2, 7, 8), tokens(2, 7, 5, seed=1)
    layer(x, query=query)

    def run(x, query):
        return layer(x, query=query, mask=MASK)

    expected = derivatives(run, [x, query], layer.trainable_weights)
    x[~MASK] = query[~MASK] = np.nan
    found = derivatives(run, [x, query], layer.trainable_weights)
    assert_equal(found, expected)
    assert (found[1][1][~MASK] == 0).all()


def test_training_on_padding_that_is_nan_keeps_the_weights_finite():
    inputs, mask = keras.Input((7, 8)), keras.Input((7,), dtype="bool")
    x = ka.MultiHeadAttention(2)(inputs, query_mask=mask)
    x = ka.GatedConvolutionBlock(2, 3)(x, mask=mask)
    model = keras.Model([inputs, mask], x)
    model.compile("sgd", "mse")
    x = tokens(2, 7, 8)
    x[~MASK] = np.nan
    model.fit([x, MASK], np.zeros((2, 7, 8)), verbose=0)
    assert all(np.isfinite(numpy(w)).all() for w in model.weights)
