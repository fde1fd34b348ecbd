"""Attention beside torch's own."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention,
)
from support.arrays import numpy

torch = pytest.importorskip("torch", reason="needs the extra 'test-torch'")


def draw(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


@pytest.mark.parametrize("way", ["plain", "chunked"])
@pytest.mark.parametrize("shared", [1, 2, 6])
@pytest.mark.parametrize("options", ["", "causal", "mask", "bias", "scale"])
def test_scaled_dot_product_attention(options, shared, way, monkeypatch):
    monkeypatch.setattr(
        "keras_attention.ops.attention.chunk_plan.QUERIES_PER_CHUNK",
        (4, 4),
    )
    query = draw(2, 11, 6, 8)
    key, value = draw(2, 11, shared, 8, seed=1), draw(2, 11, shared, 5, seed=2)
    seen = np.random.default_rng(3).random((2, 1, 11, 11)) < 0.8
    bias = draw(1, 6, 11, 11, seed=4)
    ours, theirs = {
        "": ({}, {}),
        "causal": ({"causal": True}, {"is_causal": True}),
        "mask": ({"mask": seen}, {"attn_mask": torch.tensor(seen)}),
        "bias": ({"bias": bias}, {"attn_mask": torch.tensor(bias)}),
        "scale": ({"scale": 0.7}, {"scale": 0.7}),
    }[options]
    found = scaled_dot_product_attention(
        query, key, value, **ours, implementation=way
    )
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(x).transpose(1, 2) for x in (query, key, value)),
        **theirs,
        enable_gqa=True,
    )
    np.testing.assert_allclose(
        numpy(found), expected.transpose(1, 2).numpy(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(causal):
    x = draw(3, 7, 24)
    padding = np.arange(7) < np.array([[7], [5], [2]])
    theirs = torch.nn.MultiheadAttention(24, 4, batch_first=True)
    ours = ka.MultiHeadAttention(4, causal=causal)
    ours.build(x.shape)
    with torch.no_grad():
        theirs.in_proj_bias.copy_(torch.tensor(draw(72, seed=5)))
        theirs.out_proj.bias.copy_(torch.tensor(draw(24, seed=6)))
        ka.load_weights_from(ours, theirs)
        z = torch.tensor(x)
        expected, scores = theirs(
            z,
            z,
            z,
            key_padding_mask=torch.tensor(~padding),
            attn_mask=torch.tensor(~np.tri(7, dtype=bool)) if causal else None,
            average_attn_weights=False,
        )
    found, found_scores = ours(x, mask=padding, return_attention_scores=True)
    # Theirs lets padded queries look.
    np.testing.assert_allclose(
        numpy(found.detach() if hasattr(found, "detach") else found)[padding],
        expected.numpy()[padding],
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        numpy(found_scores).swapaxes(1, 2)[padding],
        scores.numpy().swapaxes(1, 2)[padding],
        atol=1e-5,
    )


def gradients(function, arrays):
    """Of the summed squared output, on the backend that is in use."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        values = [tf.constant(x) for x in arrays]
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(function(*values) ** 2)
        return tape.gradient(total, values)
    values = [torch.tensor(x, requires_grad=True) for x in arrays]
    (function(*values) ** 2).sum().backward()
    return [value.grad for value in values]


@pytest.mark.parametrize("way", ["plain", "chunked"])
def test_gradients(way, monkeypatch):
    monkeypatch.setattr(
        "keras_attention.ops.attention.chunk_plan.QUERIES_PER_CHUNK",
        (4, 4),
    )
    arrays = [draw(2, 11, 2, 4, seed=n) for n in range(3)]
    found = gradients(
        lambda *x: scaled_dot_product_attention(
            *x, causal=True, implementation=way
        ),
        arrays,
    )
    values = [torch.tensor(x, requires_grad=True) for x in arrays]
    output = torch.nn.functional.scaled_dot_product_attention(
        *(value.transpose(1, 2) for value in values), is_causal=True
    )
    (output**2).sum().backward()
    for one, other in zip(found, values, strict=True):
        np.testing.assert_allclose(
            numpy(one), other.grad.numpy(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
def test_torch_kernel_is_taken_on_torch(causal, shared, monkeypatch):
    query, key = draw(2, 7, 2, 4), draw(2, 7, shared, 4, seed=1)
    called = []
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: called.append(1) or kernel(*a, **k),
    )
    found, plain = (
        scaled_dot_product_attention(
            query, key, key, causal=causal, implementation=way
        )
        for way in ("auto", "plain")
    )
    assert len(called) == (keras.backend.backend() == "torch")
    np.testing.assert_allclose(numpy(found), numpy(plain), atol=1e-6)
