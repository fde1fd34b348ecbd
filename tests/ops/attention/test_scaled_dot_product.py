"""Both ways of attention beside the papers' formulas and each other."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_attention.ops.attention import chunk_plan
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention,
)
from support.arrays import numpy
from support.attention import attention
from support.attention import draw
from support.networks import first_of

tf = pytest.importorskip("tensorflow", reason="needs the extra 'tensorflow'")
pytestmark = pytest.mark.tensorflow

WAYS = ("plain", "chunked")


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    before = chunk_plan.QUERIES_PER_CHUNK
    groups = chunk_plan.CAUSAL_GROUPS
    chunk_plan.QUERIES_PER_CHUNK = 4, 4
    chunk_plan.CAUSAL_GROUPS = 2
    yield
    chunk_plan.QUERIES_PER_CHUNK = before
    chunk_plan.CAUSAL_GROUPS = groups


@st.composite
def cases(draw_value):
    """Inputs and options, in float64."""
    pick = lambda *values: draw_value(st.sampled_from(values))  # noqa: E731
    batch, shared = pick(1, 2), pick(1, 2)
    heads = shared * pick(1, 3)
    queries, keys = pick(1, 3, 5, 11), pick(1, 2, 7, 13)
    generator = np.random.default_rng(pick(*range(20)))

    def normal(*shape):
        return generator.normal(size=shape)

    inputs = {
        "query": normal(batch, queries, heads, 5),
        "key": normal(batch, keys, shared, 5),
        "value": normal(batch, keys, shared, 3),
    }
    sizes = ((1, batch), (1, heads), (1, queries), (1, keys))
    if pick(True, False):
        inputs["bias"] = normal(*(pick(*size) for size in sizes))
    if pick(True, False):
        inputs["distance_bias"] = normal(heads, queries + keys - 1)
    if pick(True, False):
        inputs["sinks"] = normal(heads)
    options = {
        "causal": pick(True, False),
        "window": pick(None, None, 1, 3, 30),
        "logit_soft_cap": pick(None, 1.5),
        "scale": pick(None, 0.3),
    }
    if pick(True, False):
        shape = tuple(pick(*size) for size in sizes)
        options["mask"] = generator.random(shape) < 0.7
    return inputs, options


def expected(inputs, options):
    """By the formulas, the bias by distance laid out one by one."""
    inputs = dict(inputs)
    by_distance = inputs.pop("distance_bias", None)
    if by_distance is not None:
        queries, keys = inputs["query"].shape[1], inputs["key"].shape[1]
        laid = np.empty((1, len(by_distance), queries, keys))
        for i, j in itertools.product(range(queries), range(keys)):
            laid[0, :, i, j] = by_distance[:, j - i + queries - 1]
        inputs["bias"] = laid + inputs.get("bias", 0)
    return attention(**inputs, **options)


def derivatives(inputs, options, way, order=1):
    """Output and gradients; of order 2, of the squared gradients' sum."""
    values = [tf.constant(x) for x in inputs.values()]
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as inner:
            inner.watch(values)
            output = scaled_dot_product_attention(
                **dict(zip(inputs, values, strict=True)),
                **options,
                implementation=way,
            )
        weights = draw(*output.shape, seed=9)
        first = inner.gradient(output, values, weights)
        total = sum(tf.reduce_sum(g**2) for g in first)
    if order == 1:
        return [output, *first]
    return outer.gradient(total, values)


@settings(max_examples=20, deadline=None)
@given(cases())
def test_forward_equals_the_formulas(case):
    inputs, options = case
    output, scores = expected(inputs, options)
    for way in WAYS:
        found = scaled_dot_product_attention(
            **inputs, **options, implementation=way
        )
        np.testing.assert_allclose(numpy(found), output, atol=1e-10)
    _, found = scaled_dot_product_attention(
        **inputs, **options, return_scores=True
    )
    np.testing.assert_allclose(numpy(found), scores, atol=1e-10)


@settings(max_examples=8, deadline=None)
@given(cases())
def test_gradients_are_equal_both_ways(case):
    plain, chunked = (derivatives(*case, way) for way in WAYS)
    for one, other in zip(plain, chunked, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@settings(max_examples=4, deadline=None)
@given(cases())
def test_second_gradients_are_equal_both_ways(case):
    plain, chunked = (derivatives(*case, way, order=2) for way in WAYS)
    for one, other in zip(plain, chunked, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("heads, shared", [(2, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize(
    "queries, keys", first_of([(11, 11), (5, 13), (16, 9), (4, 4)], 3)
)
def test_causal_alone(queries, keys, heads, shared, order):
    """Its chunks mask only the keys that some of their queries do not see."""
    inputs = {
        "query": draw(2, queries, heads, 5, seed=1),
        "key": draw(2, keys, shared, 5, seed=2),
        "value": draw(2, keys, shared, 3, seed=3),
    }
    plain, chunked = (
        derivatives(inputs, {"causal": True}, way, order) for way in WAYS
    )
    for one, other in zip(plain, chunked, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    if order == 1:
        output, _ = attention(**inputs, causal=True)
        np.testing.assert_allclose(chunked[0], output, atol=1e-10)


@pytest.mark.parametrize("name", ["query", "key", "value", "bias"])
def test_gradient_equals_differences(name):
    inputs = {
        "query": draw(1, 5, 2, 3),
        "key": draw(1, 6, 1, 3, seed=1),
        "value": draw(1, 6, 1, 2, seed=2),
        "bias": draw(1, 2, 5, 6, seed=3),
    }
    options = {"causal": True, "logit_soft_cap": 2.0}
    found = dict(
        zip(inputs, derivatives(inputs, options, "chunked")[1:], strict=True)
    )[name]
    weights = draw(1, 5, 2, 2, seed=9)
    step = 1e-6
    for index in list(np.ndindex(inputs[name].shape))[::5]:
        shift = np.zeros_like(inputs[name])
        shift[index] = step
        high, low = (
            attention(**{**inputs, name: inputs[name] + s}, **options)[0]
            for s in (shift, -shift)
        )
        slope = ((high - low) * weights).sum() / (2 * step)
        assert numpy(found)[index] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 3}])
def test_sinks_equal_the_formulas(options, path):
    inputs = {
        "query": draw(2, 11, 6, 5, seed=1),
        "key": draw(2, 11, 2, 5, seed=2),
        "value": draw(2, 11, 2, 3, seed=3),
        "sinks": draw(6, seed=4),
    }
    output, *gradients = derivatives(inputs, options, path)
    expected, _ = attention(**inputs, **options)
    np.testing.assert_allclose(numpy(output), expected, atol=1e-10)
    weights, step = draw(*output.shape, seed=9), 1e-6
    for head in range(6):
        shift = step * np.eye(6)[head]
        high, low = (
            attention(**{**inputs, "sinks": inputs["sinks"] + s}, **options)[0]
            for s in (shift, -shift)
        )
        slope = ((high - low) * weights).sum() / (2 * step)
        assert numpy(gradients[3])[head] == pytest.approx(slope, abs=1e-7)


def test_a_sink_worked_by_hand():
    """exp(ln 3) / (exp(0) + exp(ln 3) + exp(ln 4)) = 3/8."""
    key = np.array([0.0, np.log(3)]).reshape(1, 2, 1, 1)
    _, scores = scaled_dot_product_attention(
        np.ones((1, 1, 1, 1)), key, key, sinks=[np.log(4)], return_scores=True
    )
    np.testing.assert_allclose(numpy(scores).ravel(), [1 / 8, 3 / 8])


def test_worked_by_hand():
    """Products 0 and ln 3: weights 1/4 and 3/4."""
    query = np.array([1.0]).reshape(1, 1, 1, 1)
    key = np.array([0.0, np.log(3)]).reshape(1, 2, 1, 1)
    value = np.array([8.0, 4.0]).reshape(1, 2, 1, 1)
    output, scores = scaled_dot_product_attention(
        query, key, value, return_scores=True
    )
    np.testing.assert_allclose(numpy(scores).ravel(), [0.25, 0.75])
    np.testing.assert_allclose(numpy(output).ravel(), [5.0])


@pytest.mark.slow
@pytest.mark.parametrize("causal, window", [(1, None), (0, 3)])
def test_compiled_with_unknown_sizes(causal, window):
    query, key = draw(2, 11, 2, 4), draw(2, 13, 1, 4, seed=1)
    options = {"causal": bool(causal), "window": window}
    by_distance = draw(2, 23, seed=2)

    def step(query, key, by_distance):
        with tf.GradientTape() as tape:
            tape.watch([query, key, by_distance])
            output = scaled_dot_product_attention(
                query, key, key, distance_bias=by_distance, **options
            )
        inputs = [query, key, by_distance]
        return output, *tape.gradient(output, inputs, 2 * output)

    arguments = [tf.constant(x) for x in (query, key, by_distance)]
    signature = [
        tf.TensorSpec((None, None, 2, 4), "float64"),
        tf.TensorSpec((None, None, 1, 4), "float64"),
        tf.TensorSpec((2, None), "float64"),
    ]
    eager = step(*arguments)
    for jit_compile in (False, True):
        compiled = tf.function(
            step, input_signature=signature, jit_compile=jit_compile
        )
        for one, other in zip(eager, compiled(*arguments), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "dtype, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_half_precision_is_computed_in_float32(way, dtype, tolerance):
    arrays = [draw(1, 9, 2, 4, seed=n) for n in range(3)]
    inputs = [tf.cast(x, dtype) for x in arrays]
    found = scaled_dot_product_attention(*inputs, implementation=way)
    assert found.dtype == dtype
    rounded = [np.asarray(tf.cast(x, "float64")) for x in inputs]
    np.testing.assert_allclose(
        numpy(tf.cast(found, "float32")), attention(*rounded)[0], atol=tolerance
    )


@pytest.mark.parametrize("way", WAYS)
def test_large_products_do_not_overflow_float16(way):
    """q · k is 230,400 here, 3.5 times the largest float16."""
    query = np.full((1, 5, 1, 64), 60, "float16")
    key = query * np.array([1, 1, -1, 1, -1], "float16")[:, None, None]
    value = np.arange(5, dtype="float16").reshape(1, 5, 1, 1)
    found = scaled_dot_product_attention(query, key, value, implementation=way)
    np.testing.assert_allclose(numpy(found), 4 / 3, rtol=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_query_that_sees_nothing_gets_zeros_and_sends_none(way):
    mask = np.ones((1, 2, 5, 6), bool)
    mask[:, 1, 3] = False
    inputs = {
        "query": draw(1, 5, 2, 3),
        "key": draw(1, 6, 2, 3, seed=1),
        "value": draw(1, 6, 2, 2, seed=2),
    }
    output, d_query, d_key, d_value = derivatives(inputs, {"mask": mask}, way)
    assert (numpy(output)[0, 3, 1] == 0).all()
    assert (numpy(d_query)[0, 3, 1] == 0).all()
    assert (numpy(d_query)[0, 3, 0] != 0).any()
    for gradient in (d_key, d_value):
        assert np.isfinite(numpy(gradient)).all()


@pytest.mark.parametrize("way", WAYS)
def test_infinite_bias_hides_a_key(way):
    x = [draw(1, 5, 1, 3, seed=n) for n in range(3)]
    bias = np.zeros((5, 5))
    bias[:, 2] = -np.inf
    found = scaled_dot_product_attention(*x, bias=bias, implementation=way)
    mask = (bias == 0)[None, None]
    np.testing.assert_allclose(numpy(found), attention(*x, mask)[0], atol=1e-12)
    bias[:] = -np.inf
    found = scaled_dot_product_attention(*x, bias=bias, implementation=way)
    assert np.isfinite(numpy(found)).all()


# Dropout.


def dropped(way, seed=3, length=12, rate=0.4, **options):
    """The weights after dropout: what the identity as values gives."""
    query = draw(1, length, 2, 3)
    value = np.eye(length)[None, :, None].repeat(2, 2)
    output, d_value = (
        derivatives(
            {"query": query, "key": query, "value": value},
            {"dropout": rate, "seed": seed, **options},
            way,
        )[n]
        for n in (0, 3)
    )
    weights = numpy(output).transpose(0, 2, 1, 3)  # [B, N, T, S]
    return query, weights, numpy(d_value)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 5}])
@pytest.mark.parametrize("way", WAYS)
def test_dropout_keeps_or_drops_and_the_gradient_agrees(way, options):
    query, weights, d_value = dropped(way, **options)
    _, scores = attention(query, query, query, **options)
    kept = weights != 0
    np.testing.assert_allclose(weights, kept * scores / 0.6, atol=1e-12)
    assert 0.4 < kept[scores > 0].mean() < 0.8
    # The gradient has its values from the same draw.
    upstream = draw(1, 12, 2, 12, seed=9)
    expected = np.einsum("bnts,btne->bsne", weights, upstream)
    np.testing.assert_allclose(d_value, expected, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_dropout_seeds(way):
    _, one, _ = dropped(way)
    np.testing.assert_array_equal(one, dropped(way)[1])
    np.testing.assert_array_equal(one, dropped(way, seed=np.int64(3))[1])
    assert ((one == 0) != (dropped(way, seed=4)[1] == 0)).any()
    chunks = one[:, :, 0:4] == 0, one[:, :, 4:8] == 0
    assert (chunks[0] != chunks[1]).any()
    assert ((one[:, 0] == 0) != (one[:, 1] == 0)).any()
    generator = keras.random.SeedGenerator(1)
    x = draw(1, 5, 1, 3)
    draws = [
        numpy(
            scaled_dot_product_attention(
                x, x, x, dropout=0.5, seed=generator, implementation=way
            )
        )
        for _ in range(2)
    ]
    assert (draws[0] != draws[1]).any()


# Errors.


def ones(*shape):
    return np.ones(shape, "float32")


@pytest.mark.parametrize(
    "shapes, message",
    [
        ([(2, 3, 4)] * 3, "length, heads, width"),
        ([(2, 3, 4, 5), (2, 3, 3, 5), (2, 3, 3, 5)], "multiple of the heads"),
        ([(2, 3, 4, 5), (2, 3, 4, 6), (2, 3, 4, 5)], "same width"),
        ([(2, 3, 4, 5), (2, 6, 4, 5), (2, 7, 4, 5)], "same length"),
        ([(2, 3, 4, 5), (2, 6, 4, 5), (2, 6, 2, 5)], "same heads"),
        ([(2, 3, 4, 5), (3, 6, 4, 5), (3, 6, 4, 5)], "same batch"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: query of"):
        scaled_dot_product_attention(*(ones(*shape) for shape in shapes))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"window": 0}, ValueError, "window=0"),
        ({"window": -3}, ValueError, "window=-3"),
        ({"dropout": 1.0}, ValueError, "dropout=1.0"),
        ({"dropout": 0.1}, ValueError, "needs a `seed`"),
        ({"dropout": 0.1, "seed": 1.5}, TypeError, "seed=1.5"),
        ({"logit_soft_cap": 0}, ValueError, "logit_soft_cap=0"),
        ({"implementation": "fast"}, ValueError, "implementation='fast'"),
        ({"mask": ones(3, 3)}, TypeError, "is a bias"),
        ({"mask": ones(2, 3) > 0}, ValueError, r"mask of shape \(2, 3\)"),
        ({"bias": ones(5, 1, 3, 3)}, ValueError, "bias of shape"),
        ({"distance_bias": ones(4, 6)}, ValueError, r"\(4, 5\)"),
        ({"sinks": ones(3)}, ValueError, r"shape \(4,\).*sinks of shape \(3,"),
    ],
)
def test_bad_options(options, error, message):
    x = ones(2, 3, 4, 5)
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(x, x, x, **options)


def test_no_query_or_no_key():
    x = ones(2, 3, 4, 5)
    assert scaled_dot_product_attention(x[:, :0], x, x).shape == (2, 0, 4, 5)
    none = scaled_dot_product_attention(x, x[:, :0], x[:, :0])
    assert (numpy(none) == 0).all()


LOWEST = {
    "float32": [-np.inf, np.finfo("float32").min],
    "float16": [-np.inf],
}


@pytest.mark.parametrize("path", ["plain", "chunked"])
@pytest.mark.parametrize("dtype", LOWEST)
def test_an_infinite_bias_is_a_mask(path, dtype):
    """Alone, with a mask, and with a causal one: no other key gets weight."""
    query, key, value = (draw(2, 5, 2, 3, seed=n) for n in range(3))
    masked = np.zeros((5, 5), bool)
    masked[1, :2] = masked[3] = masked[:, 2] = True
    mask = np.ones((5, 5), bool)
    mask[1, 2:] = False
    key[:, 2] = value[:, 2] = np.nan
    bias = draw(1, 2, 5, 5, seed=4)
    for lowest in LOWEST[dtype]:
        low = np.where(masked, lowest, bias).astype(dtype)
        for options in ({"mask": mask}, {"causal": True}, {}):
            found = scaled_dot_product_attention(
                query, key, value, bias=low, implementation=path, **options
            )
            both = ~masked & options.get("mask", True)
            expected, _ = attention(
                query,
                key,
                value,
                both,
                bias.astype(dtype),
                options.get("causal", False),
            )
            np.testing.assert_allclose(numpy(found), expected, atol=1e-6)


def test_no_masked_key_has_weight_beside_an_infinite_bias_by_distance():
    x, mask = draw(1, 3, 1, 4), np.ones((3, 3), bool)
    mask[0, 2] = False
    bias = np.zeros((1, 5))
    bias[0, 2:4] = -np.inf
    _, scores = scaled_dot_product_attention(
        x, x, x, mask=mask, distance_bias=bias, return_scores=True
    )
    np.testing.assert_allclose(numpy(scores)[0, 0, 0], [0.5, 0.5, 0])
