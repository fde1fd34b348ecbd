"""Differential attention equals the paper, padded, grouped and in steps."""

import math

import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.attention import attention
from support.attention import draw

WIDTH = 12


def make(num_heads=2, **arguments):
    layer = ka.DifferentialAttention(
        num_heads, **{"name": "differential", **arguments}
    )
    layer.build((None, None, WIDTH))
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(draw(*variable.shape, seed=seed) / 2)
    return layer


def tokens(*shape, seed=0):
    return draw(*shape, WIDTH, seed=seed, dtype="float32")


def reference(layer, query, value=None, start=0.2, dim=3, **options):
    """Equations 1 to 3 of arXiv:2410.05258, in NumPy; `start` is λ_init."""
    value = query if value is None else value
    weights = {
        weight.path.split("/", 1)[1].replace("/", "_"): numpy(weight)
        for weight in layer.weights
    }
    q, k, v = (
        x.astype("float64") @ weights[f"{name}_projection_kernel"]
        for name, x in (("query", query), ("key", value), ("value", value))
    )
    q, k = (x.reshape(*x.shape[:2], -1, 2, dim) for x in (q, k))
    v = v.reshape(*v.shape[:2], -1, 2 * dim)
    q1, k1, q2, k2 = (
        weights[f"lambda_{name}"]
        for name in ("query_1", "key_1", "query_2", "key_2")
    )
    factor = math.exp(q1 @ k1) - math.exp(q2 @ k2) + start
    (one, first), (two, second) = (
        attention(q[..., n, :], k[..., n, :], v, **options) for n in (0, 1)
    )
    heads = one - factor * two
    heads = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-5)
    heads = heads * weights["head_norm_scale"] * (1 - start)
    output = heads.reshape(*heads.shape[:2], -1)
    return output @ weights["output_projection_kernel"], first - factor * second


def check(found, expected):
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_equals_the_paper():
    layer, x = make(causal=True), tokens(2, 7)
    found, scores = layer(x, return_attention_scores=True)
    expected, maps = reference(layer, x, causal=True)
    check(found, expected)
    check(scores, maps)
    check(layer(x), expected)


def test_grouped_heads_have_keys_for_each_map():
    layer = make(4, key_dim=3, num_kv_heads=2, output_dim=5)
    query, value = tokens(2, 3), tokens(2, 6, seed=1)
    expected, _ = reference(layer, query, value)
    check(layer(query, value), expected)


@pytest.mark.parametrize(
    "arguments, start",
    [
        ({}, 0.2),
        ({"depth": 2}, 0.8 - 0.6 * math.exp(-0.3)),
        ({"depth": 28}, 0.8 - 0.6 * math.exp(-8.1)),
        ({"depth": 28, "lambda_init": 0.5}, 0.5),
        ({"lambda_init": 0.0}, 0.0),
    ],
)
def test_lambda_init(arguments, start):
    layer, x = make(**arguments), tokens(1, 4)
    assert layer.find_lambda_init() == pytest.approx(start)
    check(layer(x), reference(layer, x, start=start)[0])


def test_scores_sum_to_one_minus_lambda():
    layer = make()
    _, scores = layer(tokens(2, 5), return_attention_scores=True)
    factor = float(numpy(layer.compute_lambda()))
    np.testing.assert_allclose(numpy(scores).sum(-1), 1 - factor, atol=1e-5)


def test_lambda_starts_near_lambda_init():
    layer = ka.DifferentialAttention(2, depth=5)
    layer.build((None, None, 256))
    vectors = np.concatenate([numpy(v) for v in layer.lambda_vectors])
    assert vectors.std() == pytest.approx(0.1, rel=0.2)
    assert len(np.unique(vectors)) == 4 * 64
    factor = float(numpy(layer.compute_lambda()))
    assert factor == pytest.approx(layer.find_lambda_init(), abs=0.5)


def test_as_many_parameters_as_attention_with_twice_the_heads():
    layer = ka.DifferentialAttention(4)
    layer.build((None, None, 64))
    other = ka.MultiHeadAttention(8, use_bias=False)
    other.build((None, None, 64))
    assert layer.count_params() == other.count_params() + 4 * 8 + 16


def test_a_masked_row_gets_zeros():
    layer, x = make(), tokens(2, 4)
    mask = np.array([[0, 0, 0, 0], [1, 1, 1, 0]], bool)
    y = numpy(layer(x, mask=mask))
    np.testing.assert_array_equal(y[0], 0)
    np.testing.assert_array_equal(y[1, 3], 0)


@pytest.mark.parametrize("steps", [[1] * 7, [7], [4, 1, 2]])
@pytest.mark.parametrize("side", ["left", "right", "none"])
@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_step_by_step_equals_one_pass(steps, side, positions):
    layer = make(4, key_dim=4, causal=True, num_kv_heads=2, positions=positions)
    x = tokens(2, 7)
    mask = np.ones((2, 7), bool)
    mask[
        0, {"left": slice(2), "right": slice(5, 7), "none": slice(0)}[side]
    ] = False
    expected = numpy(layer(x, mask=mask))
    x[~mask] = np.nan
    cache, found, start = layer.initial_cache(2, 9), [], 0
    for step in steps:
        part = slice(start, start + step)
        y, cache = layer(x[:, part], mask=mask[:, part], cache=cache)
        found.append(numpy(y))
        start += step
    check(np.concatenate(found, axis=1), expected)


def test_lambda_is_not_rounded_to_half_precision():
    layer = make(dtype="mixed_float16")
    plain = make()
    assert keras.backend.standardize_dtype(layer.compute_lambda().dtype) == (
        "float32"
    )
    x = tokens(2, 5)
    y = numpy(layer(x))
    np.testing.assert_allclose(y, numpy(plain(x)), atol=3e-2)
    check(layer.compute_lambda(), numpy(plain.compute_lambda()))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_heads": 0}, ValueError, "num_heads=0"),
        ({"key_dim": 0}, ValueError, "key_dim=0"),
        ({"num_kv_heads": 3}, ValueError, "num_heads=4, num_kv_heads=3"),
        ({"depth": 0}, ValueError, "depth=0"),
        ({"lambda_init": 1.0}, ValueError, "lambda_init=1.0"),
        ({"epsilon": 0}, ValueError, "epsilon=0"),
        ({"positions": "rotary", "key_dim": 3}, ValueError, "key_dim=3"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ka.DifferentialAttention(**{"num_heads": 4, **arguments})


def test_bad_shapes():
    with pytest.raises(ValueError, match="num_heads=5 for width 12.*key_dim"):
        ka.DifferentialAttention(5).build((None, 3, 12))
    with pytest.raises(ValueError, match="key_dim=3"):
        ka.DifferentialAttention(2, positions="rotary").build((None, 3, 12))
    with pytest.raises(ValueError, match=r"query of shape \(None, 12\)"):
        ka.DifferentialAttention(4).build((None, 12))
    with pytest.raises(ValueError, match="incompatible widths"):
        make()(draw(2, 3, 11, dtype="float32"))
    with pytest.raises(ValueError, match="not built"):
        ka.DifferentialAttention(4, causal=True).initial_cache(2, 3)
