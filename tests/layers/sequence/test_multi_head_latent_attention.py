"""Latent attention equals the paper; both of its forms equal each other."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import positions
from support.arrays import numpy
from support.attention import attention
from support.attention import draw

WIDTH = 12
SIZES = {
    "num_heads": 3,
    "key_dim": 5,
    "rotary_dim": 4,
    "value_dim": 7,
    "latent_dim": 6,
}


def make(**arguments):
    layer = ka.MultiHeadLatentAttention(
        **{**SIZES, "name": "latent", **arguments}
    )
    layer.build((None, None, WIDTH))
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(draw(*variable.shape, seed=seed) / 2)
    return layer


def tokens(*shape, seed=0):
    return draw(*shape, WIDTH, seed=seed, dtype="float32")


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def rotated(x, places, frequencies, layout):
    angles = places[:, None, None] * np.asarray(frequencies)
    if layout == "half":
        first, second = np.split(x, 2, axis=-1)
    else:
        first, second = x[..., 0::2], x[..., 1::2]
    turned = (first + 1j * second) * np.exp(1j * angles)
    if layout == "half":
        return np.concatenate([turned.real, turned.imag], axis=-1)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def reference(layer, query, value=None, layout="interleaved", **options):
    """Section 2.1 and appendix C of arXiv:2405.04434, in NumPy."""
    value = query if value is None else value
    weights = {
        weight.path.split("/", 1)[1].replace("/", "_"): numpy(weight)
        for weight in layer.weights
    }
    query, value = query.astype("float64"), value.astype("float64")
    heads, key_dim, rotary_dim = 3, 5, 4
    if layer.query_latent_dim:
        query = rms_norm(
            query @ weights["query_down_kernel"], weights["query_norm_scale"]
        )
    q = query @ weights["query_up_kernel"]
    q = q.reshape(*q.shape[:2], heads, key_dim + rotary_dim)
    down = value @ weights["latent_down_kernel"]
    latent = rms_norm(down[..., :6], weights["latent_norm_scale"])
    batch, length = latent.shape[:2]
    k = (latent @ weights["key_up_kernel"]).reshape(
        batch, length, heads, key_dim
    )
    v = (latent @ weights["value_up_kernel"]).reshape(batch, length, heads, 7)
    places = np.arange(length)
    frequencies = [1.0, 0.01]
    rotary_key = rotated(down[..., None, 6:], places, frequencies, layout)
    rotary_query = rotated(
        q[..., key_dim:], places[length - q.shape[1] :], frequencies, layout
    )
    output, scores = attention(
        np.concatenate([q[..., :key_dim], rotary_query], -1),
        np.concatenate([k, np.repeat(rotary_key, heads, axis=2)], -1),
        v,
        **options,
    )
    output = output.reshape(*output.shape[:2], -1)
    return output @ weights["output_projection_kernel"], scores


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("query_latent_dim", [None, 8])
def test_equals_the_paper(layout, query_latent_dim):
    layer = make(
        query_latent_dim=query_latent_dim,
        positions=positions.Rotary(layout),
        causal=True,
    )
    x = tokens(2, 7)
    found, scores = layer(x, return_attention_scores=True)
    expected, weights = reference(layer, x, layout=layout, causal=True)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), weights, rtol=1e-4, atol=1e-5)


def test_attends_to_another_sequence():
    layer = make(window=4)
    query, value = tokens(2, 3), tokens(2, 8, seed=1)
    expected, _ = reference(layer, query, value, window=4)
    found = layer(query, value)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)


def forms(layer, x, form, monkeypatch):
    """Output, scores and cache of a layer that takes one form only."""
    monkeypatch.setattr(
        layer, "_absorbs", lambda inputs: form == "absorbed", raising=True
    )
    mask = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 1]], bool)
    return [
        *layer(x, mask=mask, return_attention_scores=True),
        layer(x[:, :2], x, value_mask=mask),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"causal": True, "window": 3, "logit_soft_cap": 2.0},
        {
            "positions": positions.Rotary(
                "half", scaling=positions.YaRNScaling(8.0, 16)
            )
        },
        {"query_latent_dim": 4, "value_dim": None},
    ],
    ids=["plain", "options", "yarn", "queries"],
)
def test_absorbed_equals_plain(arguments, monkeypatch):
    layer, x = make(**arguments), tokens(2, 6)
    results = [
        forms(layer, x, form, monkeypatch) for form in ("plain", "absorbed")
    ]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(
            numpy(one), numpy(other), rtol=1e-4, atol=1e-5
        )


def test_the_cheaper_form_is_taken(monkeypatch):
    """A few new tokens attend to the latents, a long prompt to its keys."""
    layer, taken = make(causal=True, latent_dim=40), []
    for form in ("attend_plain", "attend_absorbed"):
        method = getattr(layer, form)

        def attend(*args, form=form, method=method):
            taken.append(form)
            return method(*args)

        monkeypatch.setattr(layer, form, attend)
    layer(tokens(2, 3))
    _, cache = layer(tokens(2, 30), cache=layer.initial_cache(2, 40))
    layer(tokens(2, 1), cache=cache)
    assert taken == ["attend_plain", "attend_plain", "attend_absorbed"]


@pytest.mark.parametrize("steps", [[1] * 7, [7], [4, 1, 2]])
@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_step_by_step_equals_one_pass(steps, side):
    layer = make(causal=True, query_latent_dim=8, latent_dim=20)
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
    np.testing.assert_allclose(
        np.concatenate(found, axis=1), expected, rtol=1e-4, atol=1e-5
    )


def test_cache_holds_the_latent_and_one_rotary_key():
    layer = make(causal=True)
    cache = layer.initial_cache(2, 9)
    shapes = {name: tuple(kept.shape) for name, kept in cache.items()}
    assert shapes == {
        "latent": (2, 9, 6),
        "rotary_key": (2, 9, 4),
        "mask": (2, 9),
        "length": (2,),
    }
    unbuilt = ka.MultiHeadLatentAttention(**SIZES, causal=True)
    assert unbuilt.initial_cache(2, 9).keys() == cache.keys()
    with pytest.raises(ValueError, match="not built"):
        ka.MultiHeadLatentAttention(4, causal=True).initial_cache(2, 3)
    with pytest.raises(ValueError, match="'latent', 'rotary_key', 'mask' and"):
        layer(tokens(2, 1), cache={"key": 1})


def test_symbolic_cache():
    layer = make(causal=True)
    cache = {
        name: keras.KerasTensor(kept.shape, kept.dtype)
        for name, kept in layer.initial_cache(2, 9).items()
    }
    y, scores, after = layer(
        keras.KerasTensor((2, 3, WIDTH)),
        cache=cache,
        return_attention_scores=True,
    )
    assert tuple(y.shape) == (2, 3, WIDTH)
    assert tuple(scores.shape) == (2, 3, 3, 9)
    assert after.keys() == cache.keys()


def test_parameters_of_the_published_model():
    """An attention layer of DeepSeek-V2-Lite: d = 2048, 16 heads."""
    layer = ka.MultiHeadLatentAttention(
        16, key_dim=128, rotary_dim=64, latent_dim=512
    )
    layer.build((None, None, 2048))
    expected = 2048 * 16 * 192 + 2048 * 576 + 512 + 512 * 16 * 256
    assert layer.count_params() == expected + 16 * 128 * 2048


def test_yarn_multiplies_all_scores():
    scaling = positions.YaRNScaling(40.0, 4096, attention_factor=1.3)
    layer = make(positions=positions.Rotary(scaling=scaling))
    # Of the width that is attended with, 5 + 4.
    assert layer.scale == pytest.approx(1.3**2 / 3)


def test_defaults_are_the_paper_s_proportions():
    layer = ka.MultiHeadLatentAttention(2)
    layer.build((None, None, 16))
    assert layer._widths == (8, 4, 8, 32)
    narrow = ka.MultiHeadLatentAttention(4)
    narrow.build((None, None, 24))
    assert narrow._widths == (6, 2, 6, 24)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_heads": 0}, ValueError, "num_heads=0"),
        ({"rotary_dim": 3}, ValueError, "rotary_dim=3"),
        ({"latent_dim": 0}, ValueError, "latent_dim=0"),
        ({"query_latent_dim": 1.5}, TypeError, "query_latent_dim=1.5"),
        ({"positions": "alibi"}, ValueError, "positions='alibi'"),
        ({"positions": None}, ValueError, "positions=None"),
        ({"epsilon": 0}, ValueError, "epsilon=0"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ka.MultiHeadLatentAttention(**{**SIZES, **arguments})


def test_bad_shapes():
    with pytest.raises(ValueError, match="num_heads=5 for width 12.*key_dim"):
        ka.MultiHeadLatentAttention(5).build((None, 3, 12))
    with pytest.raises(ValueError, match=r"query of shape \(None, 12\)"):
        ka.MultiHeadLatentAttention(4).build((None, 12))
    with pytest.raises(ValueError, match="incompatible widths"):
        make()(draw(2, 3, 11, dtype="float32"))
