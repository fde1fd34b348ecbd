"""What a call is given is checked, eagerly, symbolically and in graphs."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models.transformer import ConvolutionMixer
from keras_attention.models.transformer import RecurrentMixer
from keras_attention.models.transformer import TransformerEncoderBlock
from keras_attention.models.transformer import TransformerLanguageModel
from support.arrays import numpy

ATTENTION = {
    "weights": lambda **arguments: ka.MultiHeadAttention(2, **arguments),
    "none": lambda **arguments: ka.ScaledDotProductAttention(**arguments),
}
attention = pytest.mark.parametrize("kind", ATTENTION)
CAUSAL = {
    "attention": lambda: ka.MultiHeadAttention(2, causal=True),
    "alibi": lambda: ka.MultiHeadAttention(2, positions="alibi", causal=True),
    "no-weights": lambda: ka.ScaledDotProductAttention(causal=True),
    "latent": lambda: ka.MultiHeadLatentAttention(2, causal=True),
    "differential": lambda: ka.DifferentialAttention(2, causal=True),
    "linear": lambda: ka.LinearAttention(2, causal=True),
    "retention": lambda: ka.Retention(2),
    "gated-linear": lambda: ka.GatedLinearAttention(2),
    "delta": lambda: ka.GatedDeltaNet(2, value_dim=3, kernel_size=1),
    "lightweight": lambda: ka.LightweightConv1D(2, 4, causal=True),
    "dynamic": lambda: ka.DynamicConv1D(2, 4, causal=True),
    "gated": lambda: ka.GatedConvolutionBlock(2, 3, causal=True),
    "convolution": lambda: ConvolutionMixer(3, causal=True),
    "recurrent": lambda: RecurrentMixer(causal=True),
    "block": lambda: TransformerEncoderBlock(
        ka.MultiHeadAttention(2, causal=True), 5
    ),
}
causal = pytest.mark.parametrize("name", CAUSAL)


def tokens(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


def either_way(arrays, symbolic):
    if not symbolic:
        return arrays
    return [
        keras.KerasTensor(x.shape, keras.backend.standardize_dtype(x.dtype))
        for x in arrays
    ]


# A full cache.


def full_cache(layer, length=4, taken=3):
    x = tokens(2, taken, 8)
    layer(x)
    _, cache = layer(x, cache=layer.initial_cache(2, length))
    return cache


@pytest.mark.tensorflow
@attention
def test_a_full_cache_is_an_error_in_a_graph(kind):
    import tensorflow as tf

    layer = ATTENTION[kind](causal=True)
    cache = full_cache(layer)
    step = tf.function(lambda x, cache: layer(x, cache=cache))
    _, after = step(tf.constant(tokens(2, 1, 8)), cache)
    for x, given in ((tokens(2, 2, 8), cache), (tokens(2, 1, 8), after)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="too short"):
            step(tf.constant(x), given)


@pytest.mark.tensorflow
def test_a_full_cache_is_an_error_in_a_loop():
    import tensorflow as tf

    layer = ka.MultiHeadAttention(2, causal=True)
    cache = full_cache(layer)

    @tf.function
    def run(x, cache):
        return tf.while_loop(
            lambda step, *_: step < 3,
            lambda step, _, cache: (step + 1, *layer(x, cache=cache)),
            (tf.constant(0), x, cache),
        )

    with pytest.raises(tf.errors.InvalidArgumentError, match="too short"):
        run(tf.constant(tokens(2, 1, 8)), cache)


@pytest.mark.tensorflow
def test_a_full_cache_is_nan_where_nothing_can_be_raised():
    import tensorflow as tf

    layer = ka.MultiHeadAttention(2, causal=True)
    cache = full_cache(layer)
    cache["length"] = tf.constant([3, 2])
    step = tf.function(
        lambda x, cache: layer(x, cache=cache, return_attention_scores=True),
        jit_compile=True,
    )
    for y in step(tf.constant(tokens(2, 2, 8)), cache)[:2]:
        assert np.isnan(numpy(y)[0]).all()
        assert np.isfinite(numpy(y)[1]).all()


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="runs on JAX alone"
)
def test_a_full_cache_is_nan_under_jit():
    import jax

    layer = ka.MultiHeadAttention(2, causal=True)
    cache = full_cache(layer)
    step = jax.jit(lambda x, cache: layer(x, cache=cache)[0])
    assert np.isfinite(numpy(step(tokens(2, 1, 8), cache))).all()
    assert np.isnan(numpy(step(tokens(2, 2, 8), cache))).all()


@pytest.mark.tensorflow
def test_a_full_cache_in_predict():
    import tensorflow as tf

    layer = ka.MultiHeadAttention(2, causal=True)
    cache = full_cache(layer)
    inputs = keras.Input((None, 8))
    states = {
        name: keras.Input(
            x.shape[1:], dtype=keras.backend.standardize_dtype(x.dtype)
        )
        for name, x in cache.items()
    }
    y, after = layer(inputs, cache=states)
    model = keras.Model([inputs, states], [y, after])
    model.predict([tokens(2, 1, 8), cache], verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too short"):
        model.predict([tokens(2, 2, 8), cache], verbose=0)


@attention
def test_a_full_cache_is_an_error_for_the_row_that_is_full(kind):
    layer = ATTENTION[kind](causal=True)
    cache = full_cache(layer)
    cache["length"] = keras.ops.convert_to_tensor([1, 3], "int32")
    with pytest.raises(ValueError, match="too short.*5 tokens for a cache of"):
        layer(tokens(2, 2, 8), cache=cache)


# Shapes.


@attention
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    "shapes, message",
    [
        ([(2, 5, 8), (2, 3, 8), (2, 1, 8)], "same length"),
        ([(2, 5, 8), (3, 3, 8), (3, 3, 8)], "same batch"),
        ([(2, 5, 8), (2, 3, 8), (1, 3, 8)], "same batch"),
        ([(2, 5, 8), (1, 3, 8)], "same batch"),
        ([(2, 5, 8), (2, 3, 9), (2, 3, 9)], "width"),
        ([(2, 5, 8), (2, 3, 2, 8)], "rank|shape"),
        ([(2, 5, 8), (2, 8)], "rank|shape"),
    ],
)
def test_shapes_of_query_value_and_key(kind, symbolic, shapes, message):
    arrays = either_way([tokens(*shape) for shape in shapes], symbolic)
    layer = ATTENTION[kind]()
    layer.build((None, None, 8))
    with pytest.raises(ValueError, match=message):
        layer(*arrays)


def test_lengths_that_differ_in_a_functional_model():
    query, value, key = (keras.Input((n, 8)) for n in (5, 3, 1))
    with pytest.raises(ValueError, match="same length"):
        ka.MultiHeadAttention(2)(query, value, key)


@attention
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("name", ["query_mask", "value_mask", "key_mask"])
@pytest.mark.parametrize(
    "shape", [(3,), (2,), (), (2, 3, 1), (2, 4), (1, 3), (3, 3)]
)
def test_shapes_of_masks(kind, symbolic, name, shape):
    query, value, mask = either_way(
        [tokens(2, 3, 8), tokens(2, 3, 8, seed=1), np.ones(shape, bool)],
        symbolic,
    )
    layer = ATTENTION[kind]()
    layer.build((None, None, 8))
    with pytest.raises(ValueError, match=f"`{name}`.*batch, length"):
        layer(query, value, value, **{name: mask})


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 3), (2, 3, 1)])
@causal
def test_shapes_of_the_mask_of_one_sequence(name, shape, symbolic):
    layer = CAUSAL[name]()
    layer.build((None, None, 8))
    x, mask = either_way([tokens(2, 3, 8), np.ones(shape, bool)], symbolic)
    with pytest.raises(ValueError, match="mask` must .*batch, length"):
        layer(x, mask=mask)


@attention
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (3,), (3, 3, 3), (2, 3, 3, 3), ()])
def test_shapes_of_attention_masks_and_biases(kind, symbolic, shape):
    layer = ATTENTION[kind]()
    layer.build((None, None, 8))
    x, mask, bias = either_way(
        [tokens(2, 3, 8), np.ones(shape, bool), np.ones(shape, "float32")],
        symbolic,
    )
    with pytest.raises(ValueError, match="`attention_mask` must"):
        layer(x, attention_mask=mask)
    with pytest.raises(ValueError, match="`attention_bias` must"):
        layer(x, attention_bias=bias)


@attention
@pytest.mark.parametrize(
    "name", ["query_mask", "value_mask", "attention_mask", "mask"]
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_masks_of_floats_are_refused(kind, name, symbolic):
    layer = ATTENTION[kind]()
    layer.build((None, None, 8))
    shape = (3, 3) if name == "attention_mask" else (2, 3)
    x, mask = either_way([tokens(2, 3, 8), tokens(*shape)], symbolic)
    with pytest.raises(TypeError, match="mask` must be boolean.*is a bias"):
        layer(x, **{name: mask})


@causal
def test_a_mask_of_floats_is_refused_by_every_layer(name):
    layer, x = CAUSAL[name](), tokens(2, 3, 8)
    with pytest.raises(TypeError, match="mask` must be boolean"):
        layer(x, mask=np.ones((2, 3), "float32"))


@causal
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("shape", [(2, 8), (2, 1, 3, 8), (2, 3, 9)])
def test_shapes_of_one_sequence(name, symbolic, shape):
    layer = CAUSAL[name]()
    layer(tokens(2, 3, 8))
    if name == "no-weights" and len(shape) > 2:
        pytest.skip("Heads may have an axis of their own, and any width.")
    with pytest.raises(ValueError, match="[Rr]eceived|found"):
        layer(*either_way([tokens(*shape)], symbolic))


@causal
@pytest.mark.parametrize("symbolic", [False, True])
def test_a_cache_of_another_batch(name, symbolic):
    layer = CAUSAL[name]()
    layer(tokens(2, 3, 8))
    cache = layer.initial_cache(3, 5)
    names = list(cache)
    x, *values = either_way([tokens(2, 3, 8), *cache.values()], symbolic)
    with pytest.raises(ValueError, match="`cache.*Received"):
        layer(x, cache=dict(zip(names, values, strict=True)))
    with pytest.raises(ValueError, match="`cache.*Received"):
        layer(x, cache={"state": values[0]})


# Lists, integers.


@attention
def test_lists_as_masks_and_biases(kind):
    layer, x = ATTENTION[kind](), tokens(2, 3, 8)
    seen = np.tri(3, dtype=bool)
    bias = np.arange(9.0).reshape(3, 3).astype("float32")
    padding = np.array([[1, 1, 0], [1, 1, 1]], bool)
    expected = numpy(
        layer(x, attention_mask=seen, attention_bias=bias, mask=padding)
    )
    for convert in (
        np.ndarray.tolist,
        lambda mask: mask.astype("int32"),
        lambda mask: mask.astype("int64").tolist(),
        keras.ops.convert_to_tensor,
    ):
        y = layer(
            x,
            attention_mask=convert(seen),
            attention_bias=bias.tolist(),
            mask=convert(padding),
        )
        np.testing.assert_allclose(numpy(y), expected, atol=1e-6)


@causal
def test_lists_as_the_mask_of_one_sequence(name):
    layer, x = CAUSAL[name](), tokens(2, 3, 8)
    mask = np.array([[1, 1, 0], [0, 1, 1]], bool)
    expected = numpy(layer(x, mask=mask))
    for given in (mask.tolist(), mask.astype("int32").tolist()):
        np.testing.assert_array_equal(numpy(layer(x, mask=given)), expected)


@causal
def test_integers_that_are_no_mask(name):
    layer, mask = CAUSAL[name](), np.array([[2, 2, 0], [0, 2, 2]])
    for given in (mask, mask.tolist(), keras.ops.convert_to_tensor(mask)):
        with pytest.raises(ValueError, match="from 0 to 2.*mask != 0"):
            layer(tokens(2, 3, 8), mask=given)


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_list_of_tensors_is_refused(symbolic):
    pair = either_way([tokens(2, 5, 8), tokens(2, 3, 8)], symbolic)
    built = ka.MultiHeadAttention(2)
    built.build((None, None, 8))
    for layer in (ka.MultiHeadAttention(2), built):
        with pytest.raises(ValueError, match="pass query and value"):
            layer(pair)
        with pytest.raises(ValueError, match="pass query and value"):
            layer(tuple(pair))
    with pytest.raises(ValueError, match="pass query and value"):
        built(pair[0], [pair[1]])


@causal
def test_integers_as_inputs(name):
    layer = CAUSAL[name]()
    x = np.arange(48, dtype="int32").reshape(2, 3, 8) % 5
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(layer(x.astype("float32"))), atol=1e-5
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: ka.MultiHeadAttention(2, dropout=0.5, seed=seed),
        lambda seed: ka.AdditiveAttention(dropout=0.5, seed=seed),
        lambda seed: ka.DynamicConv1D(2, 3, weight_dropout=0.5, seed=seed),
        lambda seed: ka.GatedConvolutionBlock(2, 3, dropout=0.5, seed=seed),
    ],
)
def test_integers_of_numpy_as_seeds(make):
    x = tokens(2, 3, 8)
    layer, other = make(np.int64(3)), make(3)
    layer(x)
    other(x)
    other.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        numpy(layer(x, training=True)), numpy(other(x, training=True))
    )
    assert type(layer.get_config()["seed"]) is int
    for seed in (-1, 1.5, "3"):
        with pytest.raises((TypeError, ValueError), match="`seed` must be"):
            make(seed)


@pytest.mark.parametrize(
    "layer", [ka.GatedDeltaNet, ka.GatedLinearAttention, ka.Retention]
)
def test_recurrences_in_float16_throughout(layer):
    """Weights too: what is computed in float32 is cast first."""
    x, half = tokens(2, 5, 8), layer(2, dtype="float16")
    y = numpy(half(x))
    whole = layer(2)
    whole.build(x.shape)
    whole.set_weights([w.astype("float32") for w in half.get_weights()])
    np.testing.assert_allclose(y, numpy(whole(x)), atol=2e-2)
    # Sums of products are beyond float16 before they are normalized.
    assert np.isfinite(numpy(half(2000 * x))).all()


# Shapes.

SHAPED = {
    **ATTENTION,
    "latent": lambda: ka.MultiHeadLatentAttention(2),
    "differential": lambda: ka.DifferentialAttention(2),
}


@pytest.mark.parametrize("name", SHAPED)
def test_what_is_no_shape_is_refused(name):
    layer, shape = SHAPED[name](), (2, 4, 8)
    for method in (layer.compute_output_shape, layer.build):
        with pytest.raises(ValueError, match="`value_shape` must be a shape"):
            method(shape, 2)
        with pytest.raises(ValueError, match="`query_shape` must be a shape"):
            method(None)
    if name != "latent":
        with pytest.raises(
            ValueError, match="`key_shape` must be.*key_shape=2"
        ):
            layer.compute_output_shape(shape, shape, 2)


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_of_a_backend_are_shapes(name):
    layer = SHAPED[name]()
    x = keras.ops.convert_to_tensor(tokens(2, 4, 8))
    layer.build(x.shape)
    assert layer.compute_output_shape(x.shape, x.shape) == (2, 4, 8)
    assert layer.compute_output_shape([2, np.int64(4), 8]) == (2, 4, 8)


LAYERS = {
    **SHAPED,
    "linear": lambda: ka.LinearAttention(2),
    "retention": lambda: ka.Retention(2),
    "delta": lambda: ka.GatedDeltaNet(2),
    "lightweight": lambda: ka.LightweightConv1D(2, 3),
    "dynamic": lambda: ka.DynamicConv1D(2, 3),
    "gated": lambda: ka.GatedConvolutionBlock(2, 3),
    "additive": lambda: ka.AdditiveAttention(),
    "luong": lambda: ka.LuongAttention("general"),
    "pooling": lambda: ka.AttentionPooling1D(),
    "seeds": lambda: ka.PoolingByMultiheadAttention(2),
}
layers = pytest.mark.parametrize("name", LAYERS)


@pytest.mark.parametrize("shape", [5, "abc", (2, 8), (2, -3, 8), [(2, 3, 8)]])
@pytest.mark.parametrize("name", sorted(LAYERS.keys() - SHAPED.keys()))
def test_output_shapes_are_of_sequences(name, shape):
    with pytest.raises(ValueError, match="shape|takes"):
        LAYERS[name]().compute_output_shape(shape)


@layers
def test_widths_that_make_no_weights(name):
    for shape in ((2, 5, 0), (2, 5, -8), (2, 5, None)):
        with pytest.raises(ValueError, match="Received:.*(0|-8|None)"):
            LAYERS[name]().build(shape)


@layers
def test_complex_numbers_are_refused(name):
    with pytest.raises(TypeError, match="dtype complex64"):
        LAYERS[name]()(tokens(2, 3, 8).astype("complex64"))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: ka.AdditiveAttention(units=n),
        lambda n: ka.AttentionPooling1D(n),
        lambda n: ka.DifferentialAttention(n, key_dim=n, output_dim=n),
        lambda n: ka.LuongAttention("concat", units=n),
        lambda n: ka.MultiHeadAttention(n, n, n, num_kv_heads=n, window=n),
        lambda n: ka.MultiHeadLatentAttention(n, n, rotary_dim=n),
        lambda n: ka.Retention(n, n, n),
        lambda n: RecurrentMixer(n),
    ],
)
def test_integers_of_numpy_as_sizes(make):
    layer = make(np.int64(2))
    assert layer(tokens(2, 3, 8)) is not None
    numbers = {k: v for k, v in layer.get_config().items() if v == 2}
    assert numbers
    assert {type(v) for v in numbers.values()} <= {int, float}


# Nothing to attend to.


@causal
@pytest.mark.parametrize("shape", [(2, 0, 8), (0, 3, 8)])
def test_empty_sequences_and_batches(name, shape):
    layer = CAUSAL[name]()
    layer(tokens(2, 3, 8))
    x = np.ones(shape, "float32")
    assert tuple(layer(x).shape) == shape
    assert tuple(layer(x, mask=np.ones(shape[:2], bool)).shape) == shape
    assert tuple(layer(keras.KerasTensor(shape)).shape) == shape
    if shape[0]:
        cache = layer.initial_cache(2, 5)
        y, after = layer(x, cache=cache)
        assert tuple(y.shape) == shape
        x = tokens(2, 3, 8)
        y, _ = layer(x, cache=after)
        np.testing.assert_allclose(numpy(y), numpy(layer(x)), atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"causal": True},
        {"window": 2},
        {"positions": "alibi"},
        {"positions": "relative"},
        {"positions": "rotary"},
        {"use_sinks": True},
        {"window": 2, "num_sink_tokens": 1, "positions": "rotary"},
    ],
)
@pytest.mark.parametrize("queries, keys", [(0, 4), (4, 0), (0, 0)])
def test_no_query_or_no_key(arguments, queries, keys):
    layer = ka.MultiHeadAttention(2, bias_initializer="ones", **arguments)
    layer(tokens(2, 3, 8))
    query, value = tokens(2, queries, 8), tokens(2, keys, 8)
    y, scores = layer(query, value, return_attention_scores=True)
    assert tuple(y.shape) == (2, queries, 8)
    assert tuple(scores.shape) == (2, 2, queries, keys)
    # Without keys the heads give zeros, and the projection its bias.
    if not keys:
        np.testing.assert_array_equal(numpy(y), np.ones((2, queries, 8)))


MIXERS = {
    "convolution": lambda: ConvolutionMixer(4),
    "convolution-causal": lambda: ConvolutionMixer(4, 6, causal=True),
    "one-tap": lambda: ConvolutionMixer(1),
    "recurrent": lambda: RecurrentMixer(),
    "recurrent-causal": lambda: RecurrentMixer(6, causal=True),
    "attention": lambda: ka.MultiHeadAttention(2, causal=True),
    "latent": lambda: ka.MultiHeadLatentAttention(2, causal=True),
    "differential": lambda: ka.DifferentialAttention(2, causal=True),
}
# Their graphs take long to trace.
SLOW = ("latent", "differential")


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in MIXERS
    ],
)
def test_lengths_of_zero_in_a_graph(name):
    import tensorflow as tf

    layer = MIXERS[name]()
    layer(tokens(2, 3, 8))
    run = tf.function(
        lambda x, mask: (layer(x), layer(x, mask=mask)),
        input_signature=[
            tf.TensorSpec((None, None, 8)),
            tf.TensorSpec((None, None), "bool"),
        ],
    )
    for shape in ((2, 0, 8), (0, 3, 8), (0, 0, 8), (2, 1, 8), (2, 9, 8)):
        x, mask = tokens(*shape), np.arange(shape[1]) % 3 < 2
        mask = np.broadcast_to(mask, shape[:2])
        for found, expected in zip(
            run(x, mask), (layer(x), layer(x, mask=mask)), strict=True
        ):
            np.testing.assert_allclose(
                numpy(found), numpy(expected), rtol=1e-5, atol=1e-6
            )
    if not layer.causal:
        return
    cache = layer.initial_cache(2, 9)
    step = tf.function(
        lambda x, cache: layer(x, cache=cache),
        input_signature=[
            tf.TensorSpec((None, None, 8)),
            {
                n: tf.TensorSpec((None, *t.shape[1:]), t.dtype)
                for n, t in cache.items()
            },
        ],
    )
    _, before = step(tokens(2, 3, 8), cache)
    y, after = step(tokens(2, 0, 8), before)
    assert y.shape == (2, 0, 8)
    for key, tensor in before.items():
        np.testing.assert_array_equal(numpy(after[key]), numpy(tensor))


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("positions", [None, "relative"])
@pytest.mark.parametrize("window", [None, 2])
def test_lengths_of_zero_in_a_graph_with_gradients(positions, window):
    import tensorflow as tf

    layer = ka.MultiHeadAttention(2, positions=positions, window=window)
    layer(tokens(2, 3, 8))
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function(input_signature=[tf.TensorSpec((None, None, 8))] * 2)
    def step(query, value):
        with tf.GradientTape() as tape:
            y = layer(query, value)
        return y, tape.gradient(y, weights)

    for queries, keys in ((0, 4), (4, 0), (0, 0), (3, 4)):
        y, gradients = step(tokens(2, queries, 8), tokens(2, keys, 8))
        assert y.shape == (2, queries, 8)
        assert all(np.isfinite(numpy(gradient)).all() for gradient in gradients)


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["lightweight", "dynamic", "gated"])
def test_gradients_of_empty_sequences(kind):
    import tensorflow as tf

    layer = CAUSAL[kind]()
    layer(tokens(2, 3, 8))
    weights = [weight.value for weight in layer.trainable_weights]

    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        return tape.gradient(y, weights)

    graph = tf.function(step, input_signature=[tf.TensorSpec((None, None, 8))])
    for shape in ((2, 0, 8), (0, 3, 8)):
        for run in (step, graph):
            for gradient in run(tf.zeros(shape)):
                np.testing.assert_array_equal(gradient, 0 * numpy(gradient))


def test_a_language_model_of_no_tokens():
    model = TransformerLanguageModel(11, width=8, num_blocks=1, num_heads=2)
    assert tuple(model(np.ones((2, 3), "int32")).shape) == (2, 3, 11)
    assert tuple(model(np.ones((2, 0), "int32")).shape) == (2, 0, 11)
