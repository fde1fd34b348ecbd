"""Heads that talk to each other: logits and weights mixed, as in the paper."""

import numpy as np
import pytest

from keras_attention.ops import scaled_dot_product_attention
from support.arrays import numpy
from support.attention import draw
from support.derivatives import derivatives


def reference(query, key, value, before, after, mask=True, bias=0.0):
    """Section 3 of arXiv:2003.02436; the bias comes after the first mixing."""
    width, shared = query.shape[-1], query.shape[2] // key.shape[2]
    key, value = (np.repeat(x, shared, axis=2) for x in (key, value))
    logits = np.einsum("btnd,bsnd->bnts", query, key) / np.sqrt(width)
    logits = np.einsum("bkts,kn->bnts", logits, before) + bias
    mask = np.broadcast_to(mask, logits.shape)
    powers = np.where(mask, np.exp(logits), 0)
    total = powers.sum(-1, keepdims=True)
    weights = powers / np.where(total == 0, 1, total)
    weights = np.einsum("bnts,nm->bmts", weights, after)
    return np.einsum("bnts,bsne->btne", weights, value), weights


def inputs(dtype="float32"):
    shapes = [(2, 9, 4, 3), (2, 11, 2, 3), (2, 11, 2, 5), (4, 4), (4, 4)]
    return [draw(*s, seed=n, dtype=dtype) for n, s in enumerate(shapes)]


MASKS = {
    "none": None,
    "keys": draw(2, 1, 1, 11, seed=8) > -0.5,
    "heads": draw(2, 4, 9, 11, seed=8) > 0.3,
    "a head without keys": np.arange(4)[:, None, None] != np.ones((2, 1, 1, 1)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_equals_the_paper(kind):
    query, key, value, *mixing = inputs()
    mask, bias = MASKS[kind], draw(1, 4, 9, 11, seed=6)
    found, scores = scaled_dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        bias=bias.astype("float32"),
        head_mixing=mixing,
        return_scores=True,
    )
    expected, weights = reference(
        query, key, value, *mixing, True if mask is None else mask, bias
    )
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"causal": True, "logit_soft_cap": 2.0},
        {"causal": True, "window": 5},
        {"mask": MASKS["keys"]},
    ],
    ids=["causal", "window", "mask"],
)
def test_chunked_equals_plain(options, monkeypatch):
    monkeypatch.setattr(
        "keras_attention.ops.attention.chunk_plan.QUERIES_PER_CHUNK", (4, 4)
    )
    results = []
    for way in ("plain", "chunked"):

        def attend(query, key, value, before, after, way=way):
            return scaled_dot_product_attention(
                query,
                key,
                value,
                head_mixing=(before, after),
                implementation=way,
                **options,
            )

        upstream = draw(2, 9, 4, 5, seed=9, dtype="float32")
        parts = derivatives(attend, inputs(), upstream)
        results.append([array for part in parts for array in part])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4)
        assert np.abs(one).max() > 0


def test_a_key_that_one_head_masks_may_be_talked_about_by_another():
    """What a head does not attend to is still in the logits of the others."""
    query, key, value, *mixing = inputs()
    mask = np.ones((1, 4, 1, 11), bool)
    mask[:, 1, :, 3] = False
    other = key.copy()
    other[:, 3] += 1
    outputs = [
        numpy(
            scaled_dot_product_attention(
                query, k, value, mask=mask, head_mixing=mixing
            )
        )
        for k in (key, other)
    ]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_bad_arguments():
    query, key, value, *mixing = inputs()
    for wrong in (mixing[:1], [mixing[0][:2], mixing[1]]):
        with pytest.raises(ValueError, match="head_mixing.*shape"):
            scaled_dot_product_attention(query, key, value, head_mixing=wrong)
