import keras
import numpy as np
import pytest

import keras_attention as ka
from conformance.harness import float64_mode
from support.arrays import numpy
from support.convolutions import convolve
from support.convolutions import decode
from support.convolutions import decode_after_prompts
from support.convolutions import randomize
from support.convolutions import sequence
from support.convolutions import softmax

SHAPE = (2, 11, 15)


def build(heads, taps, channels=15, **arguments):
    layer = ka.LightweightConv1D(heads, taps, **arguments)
    layer.build((None, None, channels))
    return randomize(layer)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 7, 23])
def test_equals_the_paper(taps, renormalize, causal):
    x = sequence(*SHAPE)
    mask = np.ones(SHAPE[:2], bool)
    mask[0, 7:] = mask[1, 3] = False
    layer = build(3, taps, causal=causal, renormalize_padding=renormalize)
    for m in (None, mask):
        expected = convolve(x, numpy(layer.kernel), causal, m, renormalize)
        np.testing.assert_allclose(
            numpy(layer(x, mask=m)), expected, rtol=1e-5, atol=1e-5
        )


def test_float64():
    x = sequence(*SHAPE).astype("float64")
    with float64_mode():
        layer = build(3, 7, dtype="float64")
        expected = convolve(x, numpy(layer.kernel))
        np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-12)


def test_worked_by_hand():
    """Weights (1/4, 1/2, 1/4) for one channel, (3/5, 1/5, 1/5) for another."""
    layer = ka.LightweightConv1D(num_heads=2, kernel_size=3)
    x = np.array([[[4, 5], [8, 10], [0, 15]]], "float32")
    layer.build(x.shape)
    layer.set_weights([np.log([[1, 2, 1], [3, 1, 1]])])
    np.testing.assert_allclose(
        numpy(layer(x))[0], [[4, 3], [5, 8], [2, 9]], rtol=1e-6
    )


def test_renormalized_by_hand():
    """At the ends two weights are left: 2/3 and 1/3 of the first channel."""
    layer = ka.LightweightConv1D(2, 3, renormalize_padding=True)
    x = np.array([[[6, 4], [9, 8], [0, 16]]], "float32")
    layer.build(x.shape)
    layer.set_weights([np.log([[1, 2, 1], [2, 1, 1]])])
    np.testing.assert_allclose(
        numpy(layer(x))[0], [[7, 6], [6, 8], [3, 32 / 3]], rtol=1e-6
    )


def test_renormalized_weights_of_very_unequal_logits():
    """Those inside are far below what a ratio of softmaxes could hold."""
    layer = ka.LightweightConv1D(1, 3, causal=True, renormalize_padding=True)
    layer.build((None, None, 1))
    layer.kernel.assign([[500.0, 0.0, 0.0]])
    y = numpy(layer(np.array([[[2.0], [4.0], [8.0]]], "float32")))
    np.testing.assert_allclose(y.ravel(), [2, 3, 2], rtol=1e-6)


def test_renormalized_row_without_any_valid_position():
    layer = build(3, 5, renormalize_padding=True)
    x = sequence(*SHAPE)
    mask = np.ones(SHAPE[:2], bool)
    mask[1] = False
    assert (numpy(layer(x, mask=mask))[1] == 0).all()


def test_without_softmax():
    x = sequence(*SHAPE)
    layer = build(3, 5, weight_softmax=False)
    kernel = keras.ops.transpose(keras.ops.repeat(layer.kernel, 5, axis=0))
    expected = keras.ops.depthwise_conv(x, kernel[..., None], padding="same")
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(expected), rtol=1e-4, atol=1e-5
    )


def test_bias():
    x = sequence(*SHAPE)
    layer = build(3, 5, use_bias=True)
    kernel, bias = layer.kernel, layer.bias
    expected = convolve(x, numpy(kernel)) + numpy(bias)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


def test_padding_may_hold_anything():
    x = sequence(*SHAPE)
    mask = np.arange(11) < np.array([[8], [5]])
    layer = build(3, 7)
    expected = convolve(x, numpy(layer.kernel), mask=mask)
    x[~mask] = np.inf
    x[1, -1] = np.nan
    np.testing.assert_allclose(
        numpy(layer(x, mask=mask)), expected, rtol=1e-5, atol=1e-5
    )


def test_causal_output_does_not_see_later_input():
    layer = build(3, 5, causal=True)
    x = sequence(*SHAPE)
    later = x.copy()
    later[:, 6:] += 3
    y, changed = numpy(layer(x)), numpy(layer(later))
    np.testing.assert_array_equal(y[:, :6], changed[:, :6])
    assert (y[:, 6] != changed[:, 6]).any()


@pytest.mark.parametrize(
    "arguments, count",
    [
        ({"num_heads": 16, "kernel_size": 31}, 16 * 31),
        ({"num_heads": 8, "kernel_size": 3, "use_bias": True}, 8 * 3 + 1024),
    ],
)
def test_number_of_parameters(arguments, count):
    layer = ka.LightweightConv1D(**arguments)
    layer.build((None, None, 1024))
    assert layer.count_params() == count


def test_initial_kernel_has_the_fans_of_a_grouped_convolution():
    layer = ka.LightweightConv1D(16, 31, kernel_initializer="glorot_uniform")
    layer.build((None, None, 32))
    kernel = np.abs(numpy(layer.kernel))
    limit = np.sqrt(6 / (31 + 31 * 16))
    assert 0.95 * limit < kernel.max() <= limit


def test_dropped_weights():
    """Filters of equal weights over ones: an output counts the taps left."""
    x = np.ones((3, 50, 4), "float32")
    for shared in (True, False):
        layer = ka.LightweightConv1D(
            2, 8, causal=True, weight_dropout=0.5, shared_dropout=shared, seed=1
        )
        layer.build(x.shape)
        layer.set_weights([np.zeros((2, 8))])
        np.testing.assert_allclose(numpy(layer(x))[:, 7:], 1, rtol=1e-6)
        y = numpy(layer(x, training=True))[:, 7:]
        taps = 4 * y  # each of 8 has 1/8, and twice that if it stays
        np.testing.assert_allclose(taps, taps.round(), atol=1e-5)
        np.testing.assert_allclose(y[..., 0], y[..., 1])
        assert (np.ptp(taps.round(), axis=(0, 1)) == 0).all() == shared
        assert (y != numpy(layer(x, training=True))[:, 7:]).any()
        if not shared:
            np.testing.assert_allclose(y.mean(), 1, atol=0.1)


def test_seed_makes_dropout_reproducible():
    x = sequence(*SHAPE)
    outputs = []
    for _ in range(2):
        layer = build(3, 5, weight_dropout=0.5, seed=7)
        outputs.append(numpy(layer(x, training=True)))
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("taps", [1, 4, 17])
@pytest.mark.parametrize("renormalize", [False, True])
def test_decoding_equals_the_full_pass(renormalize, taps):
    """The longest filter is longer than the sequence."""
    x = sequence(*SHAPE)
    layer = build(3, taps, causal=True, renormalize_padding=renormalize)
    full = numpy(layer(x))
    for steps in ([1] * 11, [11], [3, 1, 5, 2]):
        np.testing.assert_allclose(
            decode(layer, x, steps), full, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("taps", [4, 9])
@pytest.mark.parametrize("renormalize", [False, True])
def test_decoding_after_padded_prompts(renormalize, taps):
    x = sequence(3, 12, 15)
    layer = build(3, taps, causal=True, renormalize_padding=renormalize)
    full = numpy(layer(x))
    lengths = (6, 1, 4)
    rows = decode_after_prompts(layer, x, lengths, tokens=5)
    for row, length, expected in zip(rows, lengths, full, strict=True):
        np.testing.assert_allclose(
            row, expected[: length + 5], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("steps", [[1] * 11, [3, 8], [6, 1, 2, 2]])
@pytest.mark.parametrize("renormalize", [False, True])
def test_decoding_with_masked_tokens_in_between(renormalize, steps):
    """They keep their place, also at the end of a step."""
    x = sequence(*SHAPE)
    mask = np.ones(SHAPE[:2], bool)
    mask[0, 2:4] = mask[0, 6] = mask[1, :3] = mask[1, 5:9] = False
    layer = build(3, 4, causal=True, renormalize_padding=renormalize)
    full = numpy(layer(x, mask=mask))
    x[~mask] = np.nan
    found = decode(layer, x, steps, mask)
    np.testing.assert_allclose(found, full, rtol=1e-5, atol=1e-6)


def test_decoding_behind_an_embedding():
    """The mask is the embedding's in the full pass and in each step."""
    embedding = keras.layers.Embedding(11, 15, mask_zero=True)
    layer = build(3, 4, causal=True, renormalize_padding=True)
    tokens = np.array([[3, 5, 7, 2, 9, 0], [4, 1, 6, 0, 0, 0]])
    full = numpy(layer(embedding(tokens)))
    x = numpy(embedding(tokens)).astype("float32")
    np.testing.assert_allclose(
        full,
        convolve(x, numpy(layer.kernel), True, tokens > 0, True),
        atol=1e-5,
    )
    y, cache = layer(embedding(tokens[:, :4]), cache=layer.initial_cache(2))
    np.testing.assert_array_equal(numpy(y._keras_mask), tokens[:, :4] > 0)
    np.testing.assert_allclose(numpy(y)[0], full[0, :4], atol=1e-6)
    np.testing.assert_allclose(numpy(y)[1], full[1, :4], atol=1e-6)
    kept = np.where(tokens[:, 1:4, None] > 0, x[:, 1:4], 0)
    np.testing.assert_allclose(numpy(cache["inputs"]), kept, atol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_decoding_in_a_compiled_loop(jit):
    import tensorflow as tf

    x = sequence(*SHAPE)
    layer = build(3, 4, causal=True, renormalize_padding=True)

    @tf.function(jit_compile=jit, autograph=False)
    def run(x):
        y, cache = layer(x[:, :3], cache=layer.initial_cache(tf.shape(x)[0]))
        outputs = tf.TensorArray(x.dtype, 8, element_shape=(None, 15))

        def body(i, outputs, cache):
            token = tf.gather(x, [3 + i], axis=1)
            y, cache = layer(token, cache=cache)
            return i + 1, outputs.write(i, y[:, 0]), cache

        loop = tf.while_loop(lambda i, *_: i < 8, body, (0, outputs, cache))
        return tf.concat([y, tf.transpose(loop[1].stack(), (1, 0, 2))], 1)

    np.testing.assert_allclose(
        run(tf.constant(x)), numpy(layer(x)), rtol=1e-5, atol=1e-6
    )


def test_decoding_in_a_functional_model():
    layer = build(3, 4, causal=True)
    x = sequence(*SHAPE)
    kept = keras.Input((3, 15)), keras.Input((3,), dtype="bool")
    inputs = keras.Input((None, 15))
    y, cache = layer(inputs, cache={"inputs": kept[0], "mask": kept[1]})
    assert y.shape == (None, None, 15)
    assert cache["inputs"].shape == (None, 3, 15)
    model = keras.Model([inputs, *kept], [y, cache["inputs"], cache["mask"]])
    cache = layer.initial_cache(2)
    state = [cache["inputs"], cache["mask"]]
    outputs = []
    for part in (x[:, :4], x[:, 4:]):
        y, *state = model([keras.ops.array(part), *state])
        outputs.append(numpy(y))
    np.testing.assert_allclose(
        np.concatenate(outputs, 1), numpy(layer(x)), rtol=1e-5, atol=1e-6
    )


def test_cache_has_one_size():
    layer = build(3, 5, causal=True, dtype="mixed_float16")
    for length in (None, 7, 10_000):
        cache = layer.initial_cache(2, max_length=length)
        shapes = {key: tuple(value.shape) for key, value in cache.items()}
        assert shapes == {"inputs": (2, 4, 15), "mask": (2, 4)}
    y, after = layer(sequence(2, 3, 15), cache=cache)
    for value, before in ((y, cache["inputs"]), (after["inputs"],) * 2):
        assert value.dtype == before.dtype
    assert {k: tuple(v.shape) for k, v in after.items()} == shapes


@pytest.mark.parametrize("value", [1000.0, 60_000.0])
def test_float16_logits_and_values(value):
    layer = ka.LightweightConv1D(1, 3, dtype="mixed_float16")
    layer.build((None, None, 2))
    layer.kernel.assign([[1e5, 1e5, -1e5]])
    x = np.full((1, 5, 2), value, "float16")
    y = numpy(layer(x))[0]
    np.testing.assert_allclose(y[1:], value, rtol=1e-3)
    np.testing.assert_allclose(y[0], value / 2, rtol=1e-3)


def test_half_precision_sum_of_many_taps():
    """A bfloat16 sum of 600 small terms would stop growing."""
    layer = ka.LightweightConv1D(1, 601, dtype="mixed_bfloat16")
    layer.build((None, None, 2))
    layer.set_weights([np.zeros((1, 601))])
    y = numpy(layer(np.ones((1, 601, 2), "float32")))
    np.testing.assert_allclose(y[0, 300], 1, atol=1e-2)


def test_initializers_and_regularizers():
    layer = ka.LightweightConv1D(
        2,
        3,
        use_bias=True,
        kernel_initializer="ones",
        bias_initializer=keras.initializers.Constant(2),
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, 4))
    np.testing.assert_allclose(
        numpy(sum(layer.losses)), 0.5 * 6 + 0.25 * 8, rtol=1e-6
    )


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"num_heads": 0}, ValueError),
        ({"num_heads": 2.0}, TypeError),
        ({"kernel_size": 0}, ValueError),
        ({"kernel_size": "3"}, TypeError),
        ({"causal": 1}, TypeError),
        ({"weight_softmax": None}, TypeError),
        ({"weight_dropout": 1.0}, ValueError),
        ({"weight_dropout": -0.1}, ValueError),
        ({"shared_dropout": "yes"}, TypeError),
        ({"renormalize_padding": 0}, TypeError),
        ({"use_bias": 1}, TypeError),
    ],
)
@pytest.mark.parametrize(
    "layer",
    [ka.LightweightConv1D, ka.DynamicConv1D, ka.GatedConvolutionBlock],
)
def test_bad_arguments(layer, arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        layer(**{"num_heads": 2, "kernel_size": 3, **arguments})


def test_renormalizing_needs_the_softmax():
    with pytest.raises(ValueError, match="needs `weight_softmax=True`"):
        ka.LightweightConv1D(
            2, 3, weight_softmax=False, renormalize_padding=True
        )


@pytest.mark.parametrize(
    "layer",
    [ka.LightweightConv1D, ka.DynamicConv1D, ka.GatedConvolutionBlock],
)
def test_bad_shapes(layer):
    with pytest.raises(ValueError, match=r"rank 3.*shape=\(None, 15\)"):
        layer(3, 5).build((None, 15))
    with pytest.raises(ValueError, match="defined number of channels"):
        layer(3, 5).build((None, None, None))
    with pytest.raises(ValueError, match="num_heads=4 for 15 channels"):
        layer(4, 5).build((None, None, 15))
    with pytest.raises(ValueError, match=r"`mask` must.*shape \(2, 10\)"):
        layer(3, 5)(sequence(*SHAPE), mask=np.ones((2, 10), bool))


@pytest.mark.parametrize(
    "layer",
    [ka.LightweightConv1D, ka.DynamicConv1D, ka.GatedConvolutionBlock],
)
def test_bad_caches(layer):
    x = sequence(*SHAPE)
    with pytest.raises(ValueError, match="is built"):
        layer(3, 5, causal=True).initial_cache(2)
    centered = layer(3, 5)
    causal = layer(3, 5, causal=True)
    centered(x), causal(x)
    cache = causal.initial_cache(2)
    with pytest.raises(ValueError, match="needs a causal.*causal=False"):
        centered.initial_cache(2)
    with pytest.raises(ValueError, match="needs a causal.*causal=False"):
        centered(x, cache=cache)
    for other in (causal.initial_cache(3), {**cache, "mask": np.ones((2, 3))}):
        with pytest.raises(ValueError, match=r"`cache\['.*must have the shape"):
            causal(x, cache=other)
    with pytest.raises(ValueError, match="'inputs' and 'mask'"):
        causal(x, cache={"inputs": cache["inputs"]})
    with pytest.raises(ValueError, match="`batch_size`"):
        causal.initial_cache(0)
    with pytest.raises(ValueError, match="`max_length`"):
        causal.initial_cache(2, max_length=0)


def test_softmax_of_the_tests():
    inside = np.array([True, False, True])
    np.testing.assert_allclose(
        softmax(np.log([1.0, 5.0, 3.0]), inside), [0.25, 0, 0.75]
    )
