import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.positions import RelativeBias
from keras_attention.positions import Rotary
from support.arrays import numpy
from support.attention import attention
from support.attention import draw

WIDTH = 12


def make(num_heads=3, shape=(2, 5, WIDTH), **arguments):
    """A built layer with weights drawn at random."""
    layer = ka.MultiHeadAttention(num_heads, **arguments)
    layer.build(shape)
    return randomize(layer)


def randomize(layer, seed=1):
    generator = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        value = generator.normal(size=variable.shape) / 2
        variable.assign(value.astype("float32"))
    return layer


def tokens(*shape, seed=0):
    return draw(*shape, seed=seed, dtype="float32")


def weights(layer):
    """Weights by path inside the layer; kernels by head are matrices."""
    return {
        v.path.removeprefix(f"{layer.path}/"): numpy(v) for v in layer.weights
    }


def projected(layer, name, x):
    """One projection of (B, T, width), by head."""
    given = weights(layer)
    y = np.einsum("btw,wnd->btnd", x.astype("float64"), given[f"{name}/kernel"])
    return y + given.get(f"{name}/bias", 0)


def output_kernel(layer):
    kernel = weights(layer)["attention_output/kernel"]
    return kernel.reshape(-1, kernel.shape[-1])


def reference(layer, query, value=None, key=None, **options):
    """Section 3.2.2 of arXiv:1706.03762, from the layer's weights."""
    value = query if value is None else value
    key = value if key is None else key
    output, scores = attention(
        projected(layer, "query", query),
        projected(layer, "key", key),
        projected(layer, "value", value),
        **options,
    )
    if layer.use_gate:
        output = output / (1 + np.exp(-projected(layer, "gate", query)))
    joined = output.reshape(*output.shape[:2], -1)
    bias = weights(layer).get("attention_output/bias", 0)
    return joined @ output_kernel(layer) + bias, scores


@pytest.mark.parametrize(
    "arguments, options",
    [
        ({}, {}),
        ({"use_bias": False}, {}),
        ({"key_dim": 5, "value_dim": 7, "output_shape": 11}, {}),
        ({"use_gate": True, "value_dim": 5}, {}),
        ({"sliding_window": 2}, {"window": 2}),
        ({"sliding_window": 4, "window": 2}, {"window": 2}),
        ({"causal": True}, {"causal": True}),
        ({"window": 2}, {"window": 2}),
        ({"logit_soft_cap": 0.7}, {"logit_soft_cap": 0.7}),
    ],
)
def test_equals_the_paper(arguments, options):
    layer, x = make(**arguments), tokens(2, 5, WIDTH)
    y, scores = layer(x, return_attention_scores=True)
    expected, expected_scores = reference(layer, x, **options)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), expected_scores, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
def test_grouped_heads_equal_the_paper(kv_heads):
    layer = make(6, num_kv_heads=kv_heads)
    x = tokens(2, 5, WIDTH)
    assert weights(layer)["key/kernel"].shape == (WIDTH, kv_heads, 2)
    expected, _ = reference(layer, x)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


def test_attention_to_another_sequence():
    layer = make()
    query, value, key = (tokens(2, n, WIDTH, seed=n) for n in (5, 7, 8))
    key = key[:, :7]
    for inputs in ((query, value), (query, value, key), (query, query, query)):
        expected, _ = reference(layer, *inputs)
        np.testing.assert_allclose(
            numpy(layer(*inputs)), expected, rtol=1e-4, atol=1e-5
        )


def test_inputs_of_different_widths():
    layer = ka.MultiHeadAttention(2, key_dim=3)
    query, value, key = tokens(2, 5, 6), tokens(2, 7, 11), tokens(2, 7, 13)
    y = layer(query, value, key)
    assert tuple(y.shape) == (2, 5, 6)
    kernels = {n: v for n, v in weights(layer).items() if "kernel" in n}
    assert {n: v.shape for n, v in kernels.items()} == {
        "query/kernel": (6, 2, 3),
        "key/kernel": (13, 2, 3),
        "value/kernel": (11, 2, 3),
        "attention_output/kernel": (2, 3, 6),
    }
    expected, _ = reference(layer, query, value, key)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "width, arguments, count",
    [
        (1024, {"num_heads": 16}, 4_198_400),
        (1024, {"num_heads": 16, "use_bias": False}, 4 * 1024**2),
        (64, {"num_heads": 4, "num_kv_heads": 1}, 2 * 65 * 64 + 2 * 65 * 16),
        (64, {"num_heads": 4, "key_dim": 8, "value_dim": 5, "output_shape": 3},
         65 * (32 + 32 + 20) + 21 * 3),
        (64, {"num_heads": 4, "qk_norm": True}, 4 * 65 * 64 + 2 * 16),
        (64, {"num_heads": 4, "positions": "relative"}, 4 * 65 * 64 + 32 * 4),
        (64, {"num_heads": 4, "positions": "alibi"}, 4 * 65 * 64),
    ],
)  # fmt: skip
def test_number_of_parameters(width, arguments, count):
    layer = ka.MultiHeadAttention(**arguments)
    layer.build((None, None, width))
    assert layer.count_params() == count


def test_each_projection_is_initialized_by_itself():
    layer = ka.MultiHeadAttention(8, num_kv_heads=1)
    layer.build((None, None, 512))
    query, key, value, output = (
        weights(layer)[f"{name}/kernel"]
        for name in ("query", "key", "value", "attention_output")
    )
    for part, columns in ((query, 512), (key, 64), (value, 64), (output, 512)):
        limit = np.sqrt(6 / (512 + columns))
        assert np.abs(part).max() == pytest.approx(limit, rel=0.01)
    assert (key != value).any()


# Positions.


def test_rotary_sees_only_distances():
    layer = make(positions="rotary", num_heads=2)
    x = tokens(1, 5, WIDTH)
    padded = np.concatenate([tokens(1, 3, WIDTH, seed=7), x], axis=1)
    mask = np.array([[False] * 3 + [True] * 5])
    np.testing.assert_allclose(
        numpy(layer(padded, mask=mask))[:, 3:],
        numpy(layer(x)),
        rtol=1e-4,
        atol=1e-5,
    )
    assert not np.allclose(
        numpy(layer(x[:, ::-1]))[:, ::-1], numpy(layer(x)), atol=1e-3
    )


def test_max_wavelength_changes_the_angles():
    x = tokens(1, 5, WIDTH)
    outputs = [
        numpy(make(2, positions=Rotary(max_wavelength=length))(x))
        for length in (10_000.0, 10.0)
    ]
    assert not np.allclose(*outputs, atol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [7, 5, 3])
def test_alibi_equals_the_paper(causal, keys):
    layer = make(3, positions="alibi", causal=causal)
    query, value = tokens(2, 5, WIDTH), tokens(2, keys, WIDTH, seed=2)
    slopes = np.array([2.0**-4, 2.0**-8, 2.0**-2])
    place = np.arange(5)[:, None] + keys - 5
    bias = -slopes[:, None, None] * np.abs(np.arange(keys) - place)
    expected, _ = reference(layer, query, value, bias=bias, causal=causal)
    np.testing.assert_allclose(
        numpy(layer(query, value)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("causal", [False, True])
def test_relative_equals_the_paper(causal):
    layer = make(3, positions=RelativeBias(4, 5), causal=causal)
    x = tokens(2, 5, WIDTH)
    table = weights(layer)["relative_bias"]
    # Of four buckets, two a side: one for distance 0 (or 1 ... after it).
    # Causal: 0 | 1 | 2, 3 | 4 and more.
    bias = np.zeros((3, 5, 5))
    for i in range(5):
        for j in range(5):
            if causal:
                bucket = {0: 0, 1: 1, 2: 2, 3: 2}.get(max(i - j, 0), 3)
            else:
                bucket = (2 if j > i else 0) + min(abs(i - j), 1)
            bias[:, i, j] = table[bucket]
    expected, _ = reference(layer, x, bias=bias, causal=causal)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


def test_qk_norm_bounds_the_products():
    layer = make(3, qk_norm=True)
    x = tokens(2, 5, WIDTH)
    query, key, value = (
        projected(layer, name, x) for name in ("query", "key", "value")
    )
    scales = [numpy(n.scale) for n in (layer.query_norm, layer.key_norm)]
    query, key = (
        y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * scale
        for y, scale in zip((query, key), scales, strict=True)
    )
    output, _ = attention(query, key, value)
    bias = weights(layer)["attention_output/bias"]
    expected = output.reshape(2, 5, -1) @ output_kernel(layer) + bias
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


def test_sinks_equal_the_paper():
    layer, x = make(use_sinks=True, causal=True), tokens(2, 5, WIDTH)
    sinks = weights(layer)["sinks"]
    assert sinks.shape == (3,)
    assert (sinks != 0).all()
    y, scores = layer(x, return_attention_scores=True)
    expected, expected_scores = reference(layer, x, sinks=sinks, causal=True)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), expected_scores, atol=1e-5)
    assert (numpy(scores).sum(-1) < 1).all()


# Masks.


def test_masks_of_keras_reach_query_and_value():
    layer = make()
    embedding = keras.layers.Embedding(5, WIDTH, mask_zero=True)
    query, value = (
        np.array([[1, 2, 3, 0]]),
        np.array([[4, 0, 1, 2, 0]]),
    )
    embedded = embedding(query), embedding(value)
    y, scores = layer(*embedded, return_attention_scores=True)
    seen = (query != 0)[:, None, :, None] & (value != 0)[:, None, None, :]
    expected, expected_scores = reference(
        layer, *(numpy(x) for x in embedded), mask=seen
    )
    np.testing.assert_allclose(numpy(y), expected, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), expected_scores, atol=1e-5)
    np.testing.assert_array_equal(numpy(y._keras_mask), query != 0)


def test_a_key_is_seen_if_all_masks_allow_it():
    layer = make()
    query, value = tokens(2, 4, WIDTH), tokens(2, 5, WIDTH, seed=3)
    generator = np.random.default_rng(0)
    value_mask, key_mask = generator.random((2, 2, 5)) < 0.8
    attention_mask = generator.random((2, 4, 5)) < 0.8
    y = layer(
        query,
        value,
        value,
        value_mask=value_mask,
        key_mask=key_mask,
        attention_mask=attention_mask,
    )
    seen = (value_mask & key_mask)[:, None] & attention_mask
    expected, _ = reference(layer, query, value, mask=seen[:, None])
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)


def test_attention_bias_joins_the_layer_own():
    layer = make(3, positions="alibi")
    x, bias = tokens(2, 5, WIDTH), tokens(1, 3, 5, 5, seed=4)
    slopes = np.array([2.0**-4, 2.0**-8, 2.0**-2])
    distance = np.abs(np.arange(5) - np.arange(5)[:, None])
    expected, _ = reference(
        layer, x, bias=bias - slopes[:, None, None] * distance
    )
    y = layer(x, attention_bias=bias)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)


def test_dropout_in_training_only():
    layer = make(dropout=0.5, seed=3)
    x = tokens(2, 5, WIDTH)
    plain = make()
    np.testing.assert_array_equal(numpy(layer(x)), numpy(plain(x)))
    first, second = (numpy(layer(x, training=True)) for _ in range(2))
    assert (first != second).any()
    again = make(dropout=0.5, seed=3)
    np.testing.assert_array_equal(numpy(again(x, training=True)), first)


def test_fits_into_a_model_with_an_embedding():
    model = keras.Sequential(
        [
            keras.layers.Embedding(7, 8, mask_zero=True),
            ka.MultiHeadAttention(2, causal=True, dropout=0.1),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    x = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 0]])
    model.compile("adam", "mse")
    assert np.isfinite(model.train_on_batch(x, np.ones((2, 1))))
    longer = np.pad(x, ((0, 0), (0, 4)))
    np.testing.assert_allclose(
        numpy(model(x)), numpy(model(longer)), rtol=1e-5, atol=1e-6
    )


# Errors.


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"num_heads": 0}, ValueError),
        ({"num_heads": 2.0}, TypeError),
        ({"key_dim": 0}, ValueError),
        ({"value_dim": -1}, ValueError),
        ({"num_kv_heads": 0}, ValueError),
        ({"output_shape": 1.5}, TypeError),
        ({"output_shape": (3, 0)}, ValueError),
        ({"output_shape": ()}, TypeError),
        ({"use_gate": 1}, TypeError),
        ({"sliding_window": 0}, ValueError),
        ({"sliding_window": 2.0}, TypeError),
        ({"dropout": 1.0}, ValueError),
        ({"use_bias": None}, TypeError),
        ({"causal": 1}, TypeError),
        ({"window": 0}, ValueError),
        ({"window": -2}, ValueError),
        ({"positions": "rotatory"}, ValueError),
        ({"qk_norm": "yes"}, TypeError),
        ({"use_sinks": 1}, TypeError),
        ({"talking_heads": 1}, TypeError),
        ({"logit_soft_cap": -1.0}, ValueError),
        ({"positions": 3}, TypeError),
        ({"seed": -1}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.MultiHeadAttention(**{"num_heads": 4, **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_kv_heads": 3}, "num_heads=4, num_kv_heads=3"),
        ({"positions": "rotary", "key_dim": 5}, "key_dim=5"),
    ],
)
def test_arguments_that_do_not_fit_each_other(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.MultiHeadAttention(4, **arguments)


def test_bad_shapes_at_build():
    with pytest.raises(ValueError, match="num_heads=5 for width 12.*key_dim"):
        ka.MultiHeadAttention(5).build((None, 3, 12))
    with pytest.raises(ValueError, match="must be even.*key_dim=3"):
        ka.MultiHeadAttention(4, positions="rotary").build((None, 3, 12))
    with pytest.raises(ValueError, match=r"query of shape \(None, 12\)"):
        ka.MultiHeadAttention(4).build((None, 12))
    with pytest.raises(ValueError, match="value of shape"):
        ka.MultiHeadAttention(4).build((None, 3, 12), (None, 3, None))
    layer = make()
    with pytest.raises(ValueError, match="incompatible"):
        layer(tokens(2, 5, 11))


def test_bad_calls():
    layer, x = make(), tokens(2, 5, WIDTH)
    with pytest.raises(ValueError, match="key without value"):
        layer(x, key=x)
    with pytest.raises(ValueError, match=r"attention_mask of shape \(5, 4\)"):
        layer(x, attention_mask=np.ones((5, 4), bool))
    with pytest.raises(ValueError, match="attention_bias of shape"):
        layer(x, attention_bias=tokens(7, 1, 5, 5))


# Talking heads.


def test_heads_that_talk_to_themselves_are_multi_head_attention():
    plain, x = make(4), tokens(2, 5, WIDTH)
    layer = ka.MultiHeadAttention(4, talking_heads=True)
    layer.build(x.shape)
    assert layer.count_params() == plain.count_params() + 2 * 16
    mixing = {id(kernel) for kernel in layer.head_mixing}
    shared = [weight for weight in layer.weights if id(weight) not in mixing]
    for weight, other in zip(shared, plain.weights, strict=True):
        weight.assign(other)
    for kernel in layer.head_mixing:
        kernel.assign(np.eye(4))
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(plain(x)), rtol=1e-5, atol=1e-5
    )
    # The second head's scores are twice those of the first.
    first, second = (numpy(kernel) for kernel in layer.head_mixing)
    second[:, 1] = 2 * second[:, 0]
    layer.head_mixing[1].assign(second)
    _, scores = layer(x, return_attention_scores=True)
    scores = numpy(scores)
    np.testing.assert_allclose(scores[:, 1], 2 * scores[:, 0], rtol=1e-5)
