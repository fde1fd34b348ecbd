"""Attention scores that are given, under the masks of the layer."""

import inspect

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention import AttentionTransferModel
from keras_attention.distillation import AttentionCopy
from keras_attention.distillation.objectives.copied_scores import copied_scores
from support.arrays import numpy

BATCH, HEADS, QUERIES, KEYS, WIDTH, DIM = 2, 3, 5, 7, 4, 6
RANDOM = np.random.default_rng(3)
MASKS = {
    "query_mask": RANDOM.random((BATCH, QUERIES)) < 0.7,
    "value_mask": RANDOM.random((BATCH, KEYS)) < 0.7,
    "key_mask": RANDOM.random((BATCH, KEYS)) < 0.7,
    "attention_mask": RANDOM.random((BATCH, QUERIES, KEYS)) < 0.7,
}


def reference(layer, query, value, scores, allowed, gate=None):
    """By NumPy: the values' mean by the scores of the keys that are allowed."""
    weights = {w.path.split("/", 1)[1]: numpy(w) for w in layer.weights}
    project = "bsd,dnh->bsnh"
    values = np.einsum(project, value, weights["value/kernel"])
    scores = scores * allowed
    mixed = np.einsum("bnts,bsnh->btnh", scores, values)
    if gate:
        kernel = weights[f"{gate}/kernel"]
        mixed /= 1 + np.exp(-np.einsum(project, query, kernel))
    output = np.einsum(
        "btnh,nho->bto", mixed, weights["attention_output/kernel"]
    )
    return output, scores


def attention(ours, **arguments):
    made = keras_attention if ours else keras.layers
    keras.utils.set_random_seed(1)
    layer = made.MultiHeadAttention(
        HEADS, DIM, use_bias=False, name="attention", **arguments
    )
    shape = (BATCH, QUERIES, WIDTH)
    layer.build(shape, (BATCH, KEYS, WIDTH))
    return layer


def tensors():
    query = RANDOM.normal(size=(BATCH, QUERIES, WIDTH)).astype("float32")
    value = RANDOM.normal(size=(BATCH, KEYS, WIDTH)).astype("float32")
    scores = RANDOM.random((BATCH, HEADS, QUERIES, KEYS)).astype("float32")
    return query, value, scores


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("given", [(), *((m,) for m in MASKS), tuple(MASKS)])
def test_masked_keys_have_no_part(ours, given):
    layer = attention(ours)
    query, value, scores = tensors()
    masks = {name: MASKS[name] for name in given}
    allowed = np.ones((BATCH, 1, QUERIES, KEYS), bool)
    for name, mask in masks.items():
        allowed &= {
            "query_mask": lambda m: m[:, None, :, None],
            "attention_mask": lambda m: m[:, None],
        }.get(name, lambda m: m[:, None, None])(mask)
    expected = reference(layer, query, value, scores, allowed)
    owner = keras.Sequential([layer])
    with copied_scores(owner, {"attention": scores}):
        found = layer(
            query, value, value, return_attention_scores=True, **masks
        )
    for ours_found, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            numpy(ours_found), wanted, rtol=1e-5, atol=1e-5
        )
    assert "call" not in vars(layer)


@pytest.mark.parametrize(
    ("ours", "options", "arguments", "mask"),
    [
        (False, {}, {"use_causal_mask": True}, np.tri(QUERIES)),
        (True, {}, {"use_causal_mask": True}, np.tri(QUERIES)),
        (True, {"causal": True}, {}, np.tri(QUERIES)),
        (
            True,
            {"causal": True, "window": 2},
            {},
            np.tri(QUERIES) - np.tri(QUERIES, k=-2),
        ),
    ],
)
def test_later_keys_have_no_part(ours, options, arguments, mask):
    layer = attention(ours, **options)
    query, _, scores = tensors()
    scores = scores[..., :QUERIES]
    expected, _ = reference(layer, query, query, scores, mask)
    owner = keras.Sequential([layer])
    with copied_scores(owner, {"attention": scores}):
        found = layer(query, query, **arguments)
        np.testing.assert_allclose(numpy(found), expected, rtol=1e-5, atol=1e-5)
        if ours:
            found = layer(query, **arguments)
            np.testing.assert_allclose(
                numpy(found), expected, rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("ours", [False, True])
def test_the_gate_is_kept(ours):
    arguments = inspect.signature(keras.layers.MultiHeadAttention).parameters
    if not ours and "use_gate" not in arguments:
        pytest.skip("needs a newer Keras, whose attention has `use_gate`")
    layer = attention(ours, use_gate=True)
    query, value, scores = tensors()
    expected, _ = reference(layer, query, value, scores, 1, gate="gate")
    with copied_scores(keras.Sequential([layer]), {"attention": scores}):
        found = layer(query, value)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5, atol=1e-5)


def test_a_cache_is_refused():
    layer = attention(True, causal=True)
    query, _, scores = tensors()
    cache = layer.initial_cache(BATCH, KEYS)
    with (
        copied_scores(keras.Sequential([layer]), {"attention": scores}),
        pytest.raises(ValueError, match="complete sequences"),
    ):
        layer(query, cache=cache)


def network(name, mask_zero, seed):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, WIDTH, mask_zero=mask_zero, name="tokens")(
        tokens
    )
    y = keras_attention.MultiHeadAttention(
        HEADS, DIM, use_bias=False, name="attention"
    )(x)
    model = keras.Model(tokens, y, name=name)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


def test_a_teacher_without_masks():
    """The student attends to no padding, though the teacher does."""
    student = network("student", True, 1)
    teacher = network("teacher", False, 2)
    x = np.array([[3, 4, 5, 0, 0], [3, 0, 4, 5, 6]])
    model = AttentionTransferModel(
        student=student, teacher=teacher, losses=[AttentionCopy()]
    )
    found = numpy(model(x))
    embedded = numpy(teacher.get_layer("tokens").embeddings)[x]
    _, scores = teacher.get_layer("attention")(
        embedded, return_attention_scores=True
    )
    scores = numpy(scores)
    assert scores[0, :, :, 3:].max() > 0.05
    mask = x != 0
    embedded = numpy(student.get_layer("tokens").embeddings)[x]
    expected, _ = reference(
        student.get_layer("attention"),
        embedded,
        embedded,
        scores,
        mask[:, None, None] & mask[:, None, :, None],
    )
    np.testing.assert_allclose(found[mask], expected[mask], rtol=1e-4)
