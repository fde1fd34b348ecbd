"""First tokens that every query attends to, as StreamingLLM keeps them."""

import numpy as np
import pytest

import keras_attention as ka
from keras_attention import positions
from support.arrays import numpy
from support.attention import draw

FIRST, WINDOW, WIDTH, HEADS = 2, 3, 8, 2


def make(**arguments):
    layer = ka.MultiHeadAttention(
        HEADS,
        window=WINDOW,
        num_sink_tokens=FIRST,
        use_bias=False,
        **{"causal": True, **arguments},
    )
    layer.build((None, None, WIDTH))
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(draw(*variable.shape, seed=seed))
    return layer


def rotated(x, places):
    """Neighboring pairs of (S, N, 4) turn by the place and its hundredth."""
    angles = np.asarray(places)[:, None, None] * np.array([1, 0.01])
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)


def streaming(layer, x, rotary):
    """Section 3.2 of arXiv:2309.17453, token by token, for one sequence.

    What is kept are the first tokens and the last ones, and positions are
    those inside of what is kept.
    """
    query, key, value, output = (numpy(weight) for weight in layer.weights)
    q, k, v = (np.einsum("td,dne->tne", x, w) for w in (query, key, value))
    found = []
    for i in range(len(x)):
        kept = [j for j in range(i + 1) if j < FIRST or j > i - WINDOW]
        keys, own = k[kept], q[i : i + 1]
        if rotary:
            places = np.arange(len(kept))
            keys, own = rotated(keys, places), rotated(own, places[-1:])
        logits = np.einsum("ne,sne->ns", own[0], keys) / 2
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        heads = np.einsum("ns,sne->ne", weights, v[kept])
        found.append(np.einsum("ne,ned->d", heads, output))
    return np.stack(found)


@pytest.mark.parametrize("rotary", [False, True])
def test_equals_the_paper(rotary):
    layer = make(positions="rotary" if rotary else None)
    x = draw(1, 12, WIDTH, dtype="float32")
    np.testing.assert_allclose(
        numpy(layer(x))[0],
        streaming(layer, x[0].astype("float64"), rotary),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_not_kept(side):
    layer = make(positions=positions.Rotary("half"))
    x = draw(1, 12, WIDTH, dtype="float32")
    part = slice(3, None) if side == "left" else slice(9)
    mask = np.zeros((1, 12), bool)
    mask[:, part] = True
    np.testing.assert_allclose(
        numpy(layer(x, mask=mask))[:, part],
        numpy(layer(x[:, part])),
        rtol=1e-4,
        atol=1e-4,
    )


def test_both_sides_of_a_window():
    """Without `causal`, all attend to the first tokens as well."""
    layer = make(causal=False)
    x = draw(1, 12, WIDTH, dtype="float32")
    _, scores = layer(x, return_attention_scores=True)
    seen = (numpy(scores) > 0)[0].all(0)
    places = np.arange(12)
    near = np.abs(places[:, None] - places) < WINDOW
    np.testing.assert_array_equal(seen, near | (places < FIRST))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_sink_tokens": -1, "window": 3}, "num_sink_tokens=-1"),
        ({"num_sink_tokens": 2}, "window=None"),
        (
            {"num_sink_tokens": 2, "window": 3, "sliding_window": 3},
            "sliding_window=3",
        ),
        (
            {"num_sink_tokens": 2, "window": 3, "positions": "alibi"},
            "positions=ALiBi",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.MultiHeadAttention(2, **arguments)


def test_positions_cannot_be_given():
    layer = make(positions="rotary")
    x = draw(1, 4, WIDTH, dtype="float32")
    with pytest.raises(ValueError, match="counts the places of tokens"):
        layer(x, query_positions=np.arange(4))
